#!/usr/bin/env python3
"""Any tool that insists on files, as a function of bytes: the door for Python, and a pattern for other languages.

What the tool reads goes in as a tar on standard input, what it made comes back as one on standard output. Nothing
touches a disk, calls run side by side as they like, and a call that fails leaves nothing behind.

    $ examples/function_of_bytes.py
    apple
    pear
"""

import io
import subprocess
import tarfile


class ToolFailed(Exception):
    """The tool, or notapipe itself, ended with a status other than 0; its words are the message."""

    def __init__(self, status, words):
        super().__init__(f"status {status}: {words}")
        self.status = status


def call(tool, inputs, outputs, program="notapipe", options=()):
    """Runs a command line on files of these names and bytes; gives the outputs by their names."""
    request = io.BytesIO()
    with tarfile.open(fileobj=request, mode="w") as tar:
        for name, content in inputs.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    words = [program, "run", "--unpack", "-", "--pack", "-", *options]
    for name in outputs:
        words += ["-o", name]
    done = subprocess.run([*words, "--", *tool], input=request.getvalue(), capture_output=True)
    if done.returncode != 0:
        raise ToolFailed(done.returncode, done.stderr.decode(errors="replace").strip())
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


if __name__ == "__main__":
    made = call(["sort", "words", "-o", "sorted"], {"words": b"pear\napple\n"}, ["sorted"])
    print(made["sorted"].decode(), end="")
