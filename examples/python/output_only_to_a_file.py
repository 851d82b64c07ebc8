"""A tool that writes its result only to a file whose name it is given, as a function: 200 calls at once, from threads.

`/dev/stdout` in the place of the file fails for tools that seek or rename; a named pipe must be opened by a reader before
the tool opens it, in a thread of its own, which waits for ever when the tool fails first; and `tempfile.mktemp` names must
be removed again by somebody, also after a kill -9.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import notapipe


def text_from(program: list[str]) -> str:
    """What `program ARGUMENTS… FILE` writes into FILE."""
    return notapipe.run([*program, "result"], outputs=["result"]).outputs["result"].decode()


def main() -> None:
    # `sh -c SCRIPT WORD FILE`: the shell sees the two words as $0 and $1.
    programs = [["sh", "-c", 'echo answer $0 > "$1"', str(call)] for call in range(200)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(text_from, programs))
    assert answers == [f"answer {call}\n" for call in range(200)]
    print(f"{len(answers)} calls, each with its own answer")


if __name__ == "__main__":
    main()
