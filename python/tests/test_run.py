"""`notapipe.run`: each parameter, each error."""

from __future__ import annotations

import array
import errno
import io
import os
import subprocess
from pathlib import Path

import pytest

import notapipe
from notapipe import Step, pipe, run


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_steps_run_one_after_another_on_the_same_files() -> None:
    done = run(sh("echo b > words; echo a >> words"), ["sort", "words", "-o", "sorted"], outputs=["sorted"])
    assert done.outputs == {"sorted": b"a\nb\n"}
    assert [step.args[0] for step in done.steps] == ["sh", "sort"]
    assert done.returncode == 0 and done.error is None


@pytest.mark.parametrize(
    "content",
    [b"ab", bytearray(b"ab"), memoryview(b"xabx")[1:3], memoryview(b"a-b-")[::2], array.array("B", b"ab"), io.BytesIO(b"ab")],
)
def test_an_input_may_be_a_buffer_or_a_file_object(content: notapipe.Input) -> None:
    assert run(["cat", "in"], inputs={"in": content}).steps[0].stdout == b"ab"


def test_an_input_may_be_a_file_or_a_directory_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "word").write_bytes(b"ceci")
    done = run(["cat", "one", "all/word"], inputs={"one": tmp_path / "d" / "word", "all": tmp_path / "d"})
    assert done.steps[0].stdout == b"ceci" * 2


def test_a_callable_is_called_when_a_tool_reaches_for_the_file() -> None:
    called: list[str] = []

    def make(name: str) -> bytes:
        called.append(name)
        return name.encode()

    inputs: dict[str, notapipe.Input] = {"a": lambda: make("a"), "b": lambda: io.BytesIO(make("b"))}
    done = run(["cat", "b"], inputs=inputs)
    assert done.steps[0].stdout == b"b"
    assert called == ["b"]


def test_a_str_is_no_input() -> None:
    with pytest.raises(TypeError, match="may be contents or a path"):
        run(["true"], inputs={"a": "word"})  # type: ignore[dict-item]


@pytest.mark.parametrize("wrong", ["ls -l", b"ls", []])
def test_a_step_is_a_list_of_arguments(wrong: list[str]) -> None:
    with pytest.raises((TypeError, ValueError), match="a step"):
        run(wrong)


def test_what_a_callable_raises_is_the_cause() -> None:
    def fail() -> bytes:
        raise ZeroDivisionError("of mine")

    with pytest.raises(notapipe.NotapipeError, match="of mine") as raised:
        run(["cat", "a"], inputs={"a": fail})
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_file_in_text_mode_is_refused() -> None:
    with pytest.raises(notapipe.NotapipeError, match="text mode"):
        run(["true"], inputs={"a": io.StringIO("text")})  # type: ignore[dict-item]


def test_outputs_may_be_directories_optional_patterns_or_all_that_changed() -> None:
    make = sh("mkdir -p d/e; echo 1 > d/e/f; echo 2 > a.gb; echo 3 > b.gb")
    assert run(make, outputs=["d"]).outputs == {"d/e/f": b"1\n"}
    assert run(make, optional=["a.gb", "none"]).outputs == {"a.gb": b"2\n"}
    assert run(make, collect=["*.gb"]).outputs == {"a.gb": b"2\n", "b.gb": b"3\n"}
    done = run(make, inputs={"old": b""}, changed=True)
    assert done.outputs == {"a.gb": b"2\n", "b.gb": b"3\n", "d/e/f": b"1\n"}
    assert sorted(done.changed) == ["a.gb", "b.gb", "d/e/f"]
    assert done.sizes == {"a.gb": 2, "b.gb": 2, "d/e/f": 2}


def test_a_view_outlives_the_outcome_without_a_copy() -> None:
    view = run(sh("printf ceci > word")).view("word")
    assert view.readonly and view.format == "B" and view.tobytes() == b"ceci"
    part = view[1:3]
    del view
    assert bytes(part) == b"ec"
    done = run(sh(": > empty"))
    assert len(done.view("empty")) == 0
    with pytest.raises(KeyError, match="no file"):
        done.view("none")
    with pytest.raises(KeyError):
        done.view("../up")


def test_outcomes_are_packed_and_written(tmp_path: Path) -> None:
    done = run(sh("mkdir d; echo 1 > d/f; echo 2 > g"), outputs=["d", "g"])
    for form in ["tar", "tar.gz", "tar.zst", "tar.xz", "zip"]:
        assert done.pack(form)
    with pytest.raises(ValueError, match="no format"):
        done.pack("rar")
    done.write_to(tmp_path / "out")
    assert (tmp_path / "out" / "d" / "f").read_bytes() == b"1\n"
    assert (tmp_path / "out" / "g").read_bytes() == b"2\n"
    with pytest.raises(notapipe.NotapipeError):
        done.write_to("/proc")


def test_streams_of_a_step(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        run(Step(sh("cat; echo err >&2"), stdin=b"in\n", stdout=file, stderr=file.fileno()))
    assert log.read_bytes() == b"in\nerr\n"
    with log.open("rb") as file:
        assert run(["cat"], stdin=file).steps[0].stdout == b"in\nerr\n"
    both = Step(sh("echo out; echo err >&2"), stdout="both", stderr="both")
    assert run(both, Step(["cat"], stdin="both")).steps[1].stdout == b"out\nerr\n"
    quiet = run(Step(["echo", "ceci"], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL))
    assert quiet.steps[0].stdout == b""
    assert run(["cat"], stdin=bytearray(b"all")).steps[0].stdout == b"all"
    assert run(["cat"]).steps[0].stdout == b""


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    with pytest.raises(OSError):
        run(Step(["cat"], stdin=12345))
    with pytest.raises(ValueError, match="-7"):
        run(Step(["cat"], stdin=-7))


def test_environment_and_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CECI", "inherited")
    assert run(sh("echo $CECI")).steps[0].stdout == b"inherited\n"
    assert run(["env"], env={"A": "1"}).steps[0].stdout == b"A=1\n"
    assert run(Step(["env"], env={"B": "2"}), env={"A": "1"}).steps[0].stdout == b"B=2\n"
    assert run(sh("mkdir d"), Step(["pwd"], cwd="d")).steps[1].stdout.endswith(b"/d\n")


def test_a_pipe_joins_steps() -> None:
    done = run(pipe(["printf", "b\na\n"], Step(["sort"], stdout="sorted")), outputs=["sorted"])
    assert done.outputs == {"sorted": b"a\nb\n"}
    with pytest.raises(notapipe.StepFailed) as raised:
        run(pipe(sh("exit 3"), ["cat"]))
    assert raised.value.returncode == 3


def test_a_step_that_fails() -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        run(["true"], sh("echo out; echo err >&2; echo half > left; exit 3"), ["echo", "never"], outputs=["left"])
    failed = raised.value
    assert isinstance(failed, notapipe.StepFailed)
    assert (failed.returncode, failed.stdout, failed.stderr) == (3, b"out\n", b"err\n")
    assert failed.cmd[0] == "sh" and str(failed) == '"sh" ended with status 3: err'
    assert failed.outcome is not None and failed.outcome.outputs == {"left": b"half\n"}
    assert failed.outcome.steps_not_run == [["echo", "never"]]
    unchecked = run(sh("kill -9 $$"), check=False)
    assert unchecked.returncode == -9 and unchecked.error is not None


def test_the_time_is_over() -> None:
    with pytest.raises(subprocess.TimeoutExpired, match="help: give it longer with timeout=") as raised:
        run(sh("echo so far; exec sleep 600"), timeout=0.2)
    expired = raised.value
    assert isinstance(expired, notapipe.TimeoutExpired)
    assert (expired.timeout, expired.stdout) == (0.2, b"so far\n")
    assert expired.outcome is not None and expired.outcome.steps[0].ended_by == "timeout"
    # It has time to end, and says so.
    with pytest.raises(notapipe.TimeoutExpired) as raised_later:
        run(sh("trap 'echo ended; exit' TERM; while :; do sleep 0.01; done"), timeout=0.2, kill_after=60)
    assert raised_later.value.stdout == b"ended\n"
    with pytest.raises(ValueError, match="timeout"):
        run(["true"], timeout=-1)


def test_an_output_is_missing() -> None:
    with pytest.raises(FileNotFoundError, match='no output "x"') as raised:
        run(["touch", "y"], outputs=["x"])
    assert isinstance(raised.value, notapipe.OutputMissing) and raised.value.errno == errno.ENOENT
    with pytest.raises(notapipe.OutputMissing):
        run(["true"], collect=["*.gb"])


def test_limits_are_met() -> None:
    with pytest.raises(OSError, match="help: raise the limit with size=") as raised:
        run(["true"], inputs={"large": bytes(100_000)}, size="8K")
    assert isinstance(raised.value, notapipe.LimitReached) and raised.value.errno == errno.ENOSPC
    with pytest.raises(notapipe.LimitReached, match="inodes="):
        run(["true"], inputs={str(number): b"" for number in range(10)}, inodes=5)
    with pytest.raises(notapipe.StepFailed, match="raise the limit with size="):
        run(sh("head -c 100000 /dev/zero > large"), size=8192)
    with pytest.raises(notapipe.LimitReached, match="processes"):
        run(sh("for n in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait"), limits={"processes": 3}, timeout=60)
    with pytest.raises(notapipe.LimitReached, match="cpu"):
        run(sh("while :; do :; done"), limits={"cpu": 1}, timeout=60)
    assert run(sh("ulimit -n"), limits={"files": 32}).steps[0].stdout == b"32\n"
    assert run(["true"], size="50%", limits={"memory": "2G"}).usage.limit_bytes > 1 << 20
    for wrong in ["8 apples", "0%", "101%", ""]:
        with pytest.raises(ValueError, match="write whole bytes"):
            run(["true"], size=wrong)
    with pytest.raises(ValueError, match="no limit is called"):
        run(["true"], limits={"apples": 3})


def test_an_input_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="cannot read") as raised:
        run(["true"], inputs={"a": Path("no-such-file")})
    assert isinstance(raised.value, notapipe.FileMissing) and raised.value.errno == errno.ENOENT


def test_a_tool_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="not found in PATH") as raised:
        run(["no-such-tool"], check=False)
    assert isinstance(raised.value, notapipe.ToolNotFound)


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "", "a/../../b"])
def test_names_that_cannot_be_used(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be used") as raised:
        run(["true"], inputs={name: b""})
    assert isinstance(raised.value, notapipe.NameRefused)
    with pytest.raises(notapipe.NameRefused):
        run(["true"], outputs=[name])


def test_names_that_are_not_utf8() -> None:
    name = os.fsdecode(b"caf\xe9")
    done = run(["cp", name, name + "2"], inputs={name: b"ole"}, outputs=[name + "2"])
    assert done.outputs == {name + "2": b"ole"}
    assert done.steps[0].args == ["cp", name, name + "2"]


def test_the_report_tells_which_files_were_touched() -> None:
    report = run(["sort", "words", "-o", "sorted"], inputs={"words": b"b\na\n"}, outputs=["sorted"], report=True).report
    assert report["result"] == "ok" and report["exit_status"] == 0
    assert report["steps"][0]["files"]["read"] == ["words"]
    assert report["steps"][0]["files"]["created"] == ["sorted"]
    assert report["outputs"] == [{"name": "sorted", "kind": "file", "bytes": 4}]
    failed = run(sh("kill $$"), check=False).report
    assert failed["exit_status"] == 143 and failed["steps"][0]["exit"] == {"signal": 15}
    assert "files" not in failed["steps"][0]


@pytest.mark.parametrize("backing", ["fuse", "tmpfs", "directory"])
def test_backings(backing: str) -> None:
    done = run(["cp", "a", "b"], inputs={"a": b"ceci"}, outputs=["b"], backing=backing)
    assert done.outputs == {"b": b"ceci"} and done.backing == backing


def test_a_backing_that_is_none() -> None:
    with pytest.raises(ValueError, match="there are auto, fuse, tmpfs and directory"):
        run(["true"], backing="disk")


def test_usage_and_times() -> None:
    done = run(sh("head -c 100000 /dev/zero > large; rm large; sleep 0.01"))
    assert done.usage.peak_bytes >= 100_000 > done.usage.bytes
    assert 0.01 <= done.steps[0].duration <= done.duration
    assert done.steps[0].max_rss > 0 and done.steps[0].user_time >= 0
    assert set(done.phases) == {"stage", "mount", "run", "unmount"}


def test_the_command_is_the_real_one() -> None:
    told = subprocess.run(["notapipe", "run", "--", "echo", "ceci"], capture_output=True, check=True)
    assert told.stdout == b"ceci\n"
