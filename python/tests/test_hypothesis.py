"""Names and bytes that go in come out."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import notapipe

#: Any component that Linux allows.
component = st.binary(min_size=1, max_size=255).filter(lambda it: not re.search(rb"[/\0]", it) and it not in (b".", b".."))
name = st.lists(component, min_size=1, max_size=3).map(lambda parts: os.fsdecode(b"/".join(parts)))


def no_name_is_above_another(names: dict[str, bytes]) -> bool:
    return not any(one != other and Path(one).is_relative_to(other) for one in names for other in names)


files = st.dictionaries(name, st.binary(max_size=10_000), min_size=1, max_size=5).filter(no_name_is_above_another)


@settings(max_examples=100, deadline=None)
@given(files)
def test_what_goes_in_comes_out(files: dict[str, bytes]) -> None:
    done = notapipe.run(["true"], inputs=files, outputs=files)
    assert done.outputs == files
    assert {name: bytes(done.view(name)) for name in files} == files


@settings(max_examples=50, deadline=None)
@given(files)
def test_tools_see_it_as_it_is(files: dict[str, bytes]) -> None:
    script = 'for name; do cat -- "$name"; done'
    done = notapipe.run(["sh", "-c", script, "sh", *(f"./{it}" for it in files)], inputs=files)
    assert done.steps[0].stdout == b"".join(files.values())


@settings(max_examples=50, deadline=None)
@given(files)
def test_a_scratch_directory_keeps_it(files: dict[str, bytes]) -> None:
    with notapipe.Scratch() as scratch:
        for name, content in files.items():
            scratch.write(name, content)
        for name, content in files.items():
            assert (scratch.path / name).read_bytes() == content == scratch.read(name)
