"""What all tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# The notapipe program that was installed beside this interpreter.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "python"))
