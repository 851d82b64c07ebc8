"""For pytest: the fixture `ram_path`."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest


@pytest.fixture
def ram_path() -> Iterator[Path]:
    """A directory of this test's own, as `tmp_path`, in RAM and gone when the test ends."""
    from ._scratch import Scratch

    with Scratch() as scratch:
        yield scratch.path
