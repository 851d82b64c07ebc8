"""What the workloads work on, made on tmpfs when the first of them asks for it."""

import dataclasses
import functools
import io
import os
import sys
import tarfile
from pathlib import Path

import places

SCRIPTS = Path(__file__).resolve().parent.parent
MEBIBYTE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much of everything."""

    commands: int
    jobs: int
    project_files: int
    passes: int
    random_times: int
    churn_times: int
    large_sizes: tuple[int, ...]
    tar_files: int
    repository_files: int
    rows: int
    directory_sizes: tuple[int, ...]


FULL = Scale(
    commands=20,
    jobs=1000,
    project_files=2000,
    passes=50,
    random_times=20_000,
    churn_times=5_000,
    large_sizes=(16 * MEBIBYTE, 128 * MEBIBYTE, 1024 * MEBIBYTE),
    tar_files=20_000,
    repository_files=5_000,
    rows=2_000,
    directory_sizes=(1_000, 10_000, 100_000),
)

QUICK = Scale(
    commands=5,
    jobs=20,
    project_files=100,
    passes=10,
    random_times=1_600,
    churn_times=500,
    large_sizes=(16 * MEBIBYTE, 256 * MEBIBYTE),
    tar_files=2_000,
    repository_files=500,
    rows=100,
    directory_sizes=(1_000, 10_000),
)


class Fixtures:
    def __init__(self, base, scale, environment):
        self._base = Path(base)
        self._scale = scale
        self._environment = environment
        self.is_root = os.geteuid() == 0

    def _run(self, *command, directory=None):
        places.run(command, directory or self._base, self._environment)

    @functools.cached_property
    def program(self):
        """A.asm and B.o."""
        directory = self._base / "program"
        directory.mkdir(exist_ok=True)
        examples = SCRIPTS.parent / "examples" / "gameboy" / "simple"
        (directory / "A.asm").write_bytes((examples / "A.asm").read_bytes())
        self._run("rgbasm", examples / "B.asm", "-o", directory / "B.o")
        return directory

    @functools.cached_property
    def project(self):
        """What generate-project.py writes."""
        directory = self._base / "project"
        generator = SCRIPTS / "generate-project.py"
        self._run(sys.executable, generator, directory, "--files", str(self._scale.project_files))
        return directory

    @functools.cache
    def large(self, size):
        """A file `large` of this size, in a directory of its own."""
        file = self._base / f"large-{size}" / "large"
        file.parent.mkdir()
        block = os.urandom(MEBIBYTE)
        with file.open("wb") as target:
            for _ in range(size // MEBIBYTE):
                target.write(block)
        return file

    @functools.cached_property
    def tarball(self):
        """As many files of some kilobytes as the scale says, in directories of 100 below `tree`."""
        archive = self._base / "tree.tar"
        with tarfile.open(archive, "w") as tar:
            for number in range(self._scale.tar_files):
                # 0 to 8 KiB, small ones more often, as source trees have.
                content = b"x" * (number * 7919 % 91) ** 2
                member = tarfile.TarInfo(f"tree/d{number // 100:04}/f{number % 100:02}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return archive

    @functools.cached_property
    def repository(self):
        """A bare repository of one commit with the scale's number of files."""
        tree, bare = self._base / "worktree", self._base / "repository.git"
        for number in range(self._scale.repository_files):
            path = tree / f"d{number // 50:03}" / f"f{number % 50:02}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"file {number}\n" * (number % 100 + 1))
        identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0")
        self._run("git", "init", "-q", tree)
        self._run("git", *identity, "add", ".", directory=tree)
        self._run("git", *identity, "commit", "-q", "-m", "files", directory=tree)
        self._run("git", "clone", "-q", "--bare", tree, bare)
        return bare
