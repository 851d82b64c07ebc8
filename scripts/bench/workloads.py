"""The workloads. Each function says what a user does there, and yields one or more cases of it.

The options' sizes come as `scale`, what must exist beforehand as `fixtures`; see those modules.
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

# By name, in the order of the table.
WORKLOADS = {}

HERE = Path(__file__).resolve().parent


def workload(function):
    WORKLOADS[function.__name__.replace("_", "-")] = function
    return function


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table."""

    name: str
    # What is counted: the table shows time and requests for one of these.
    unit: str
    count: int = 1
    # For the plot: how large this one of a workload's cases is, and in what.
    size: int | None = None
    size_unit: str = ""
    # Free bytes that it takes, per place.
    needs_bytes: int = 64 << 20
    # The memory that it may come to use, the kernel's caches included.
    memory_bytes: int = 256 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inside(Case):
    """Commands in a directory of the place. `measure` writes its own time to `{elapsed}`."""

    measure: list
    prepare: list = dataclasses.field(default_factory=list)
    # A directory whose content is put there first: copied, or staged by notapipe.
    stage: Path | None = None

    def run_in(self, place):
        return place.run_inside(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outside(Case):
    """A whole command against what one would write without notapipe, run `times` times."""

    # By the place's name. A place that has none is left out.
    commands: Mapping[str, list]
    times: int
    # The content of the directory that it is started in, which is always on tmpfs.
    files: Path | None = None
    # The arguments of a `notapipe run` whose requests are those of one of `unit`.
    report: list | None = None

    def command_for(self, place):
        return self.commands[place]

    def run_in(self, place):
        return place.run_outside(self)


def micro(command, *arguments):
    """A command of micro.c."""
    return ["{micro}", "{elapsed}", command, *arguments]


def untimed(command, *arguments):
    return ["{micro}", "-", command, *arguments]


def timed(*command):
    """Any command, timed from its start to its end."""
    return micro("run", 1, *command)


def shell(script):
    return ["sh", "-euc", script]


def bytes_text(count):
    """1048576 as 1M."""
    for power, letter in ((30, "G"), (20, "M"), (10, "K")):
        if count >= 1 << power and count % (1 << power) == 0:
            return f"{count >> power}{letter}"
    return str(count)


# Whole commands.


@workload
def mount(scale, fixtures):
    """A scratch directory is mounted, and unmounted again. (A tmpfs can be mounted by root only.)"""
    commands = {
        "notapipe": shell('mkdir m; "$NOTAPIPE" mount m --background; "$NOTAPIPE" umount m; rmdir m'),
    }
    if fixtures.is_root:
        commands["tmpfs"] = shell("mkdir m; mount -t tmpfs none m; umount m; rmdir m")
    yield Outside(
        name="mount", unit="mount", count=scale.commands, times=scale.commands, commands=commands
    )


@workload
def true(scale, fixtures):
    """A job that does nothing: what the mount itself costs, against mktemp, true and rm -rf."""
    script = shell('d=$(mktemp -d -p "$SCRATCH"); (cd "$d"; exec true); rm -rf "$d"')
    yield Outside(
        name="true",
        unit="job",
        count=scale.commands,
        times=scale.commands,
        commands={"tmpfs": script, "disk": script, "notapipe": ["{notapipe}", "run", "--", "true"]},
        report=["--", "true"],
    )


@workload
def true_alone(scale, fixtures):
    """The same against `true` and nothing else: what a job adds to the tool."""
    yield Outside(
        name="true-alone",
        unit="job",
        count=scale.commands,
        times=scale.commands,
        commands={
            "tmpfs": ["true"],
            "notapipe": ["{notapipe}", "run", "--", "true"],
            "tmpfs backing": ["{notapipe}", "run", "--backing", "tmpfs", "--", "true"],
        },
        report=["--", "true"],
    )


JOB = (
    "-i A.asm -i B.o -o A.gb{dest} -o A.map{dest} -o A.sym{dest} --"
    " rgbasm A.asm -o A.o --then rgblink A.o B.o -o A.gb -m A.map -n A.sym"
)
JOB_SCRIPT = """
d=$(mktemp -d -p "$SCRATCH")
cp A.asm B.o "$d"
(cd "$d"; rgbasm A.asm -o A.o; rgblink A.o B.o -o A.gb -m A.map -n A.sym)
cp "$d/A.gb" "$d/A.map" "$d/A.sym" "${1:-.}"
rm -rf "$d"
"""


@workload
def job(scale, fixtures):
    """One Game Boy program is assembled and linked, from two inputs to three outputs."""
    words = JOB.format(dest="").split()
    yield Outside(
        name="job",
        unit="job",
        count=scale.commands,
        times=scale.commands,
        commands={
            "tmpfs": shell(JOB_SCRIPT),
            "disk": shell(JOB_SCRIPT),
            "notapipe": ["{notapipe}", "run", *words],
        },
        files=fixtures.program,
        report=words,
    )


@workload
def jobs(scale, fixtures):
    """Many such jobs, two at a time: a server, or a test suite."""
    (fixtures.program / "job.sh").write_text("set -eu\nmkdir $1" + JOB_SCRIPT)
    one = f"seq {scale.jobs} | xargs -P2 -I{{}}"
    # A directory of its own for each job's outputs, which notapipe makes by itself.
    ours = JOB.format(dest="={}/")
    yield Outside(
        name="jobs",
        unit="job",
        count=scale.jobs,
        times=1,
        commands={
            "tmpfs": shell(f"{one} sh job.sh {{}}"),
            "disk": shell(f"{one} sh job.sh {{}}"),
            "notapipe": shell(f'{one} "$NOTAPIPE" run {ours}'),
        },
        files=fixtures.program,
        report=JOB.format(dest="").split(),
    )


# A build.


@workload
def build(scale, fixtures):
    """A generated Game Boy project is built by make: many short processes, many small files."""
    for parallel in (1, 2):
        yield Inside(
            name=f"build-j{parallel}",
            unit="build",
            measure=timed("make", "-s", f"-j{parallel}"),
            stage=fixtures.project,
        )


# Files that are there and known: the kernel's caches.

FILES = 1000
SMALL_FILE_BYTES = 4096


def warm(name, unit, command, scale, extra=()):
    """Visits small files that were visited before."""
    return Inside(
        name=name,
        unit=unit,
        count=FILES * scale.passes,
        prepare=[
            untimed("create", FILES, 0, SMALL_FILE_BYTES),
            untimed(command, FILES, 1, *extra),
        ],
        measure=micro(command, FILES, scale.passes, *extra),
    )


@workload
def stat(scale, fixtures):
    """make looks at files that it has looked at before."""
    yield warm("stat", "stat", "stat", scale)


@workload
def stat_missing(scale, fixtures):
    """A compiler looks along its include path, and the file is not there."""
    yield warm("stat-missing", "stat", "stat-missing", scale)


@workload
def open_close(scale, fixtures):
    """Files are opened and closed."""
    yield warm("open-close", "open", "open", scale, [0])


@workload
def open_read(scale, fixtures):
    """A header is opened, read and closed again, as in every compilation."""
    yield warm("open-read", "file", "open", scale, [SMALL_FILE_BYTES])


# Reads and writes in the middle of a file.


def random_io(kind, block, times, fixtures):
    name = fixtures.large(16 << 20).name
    return Inside(
        name=f"random-{kind}-{bytes_text(block)}",
        unit=kind,
        count=times,
        # Read through first, so that reads are those of a file in use.
        prepare=[shell(f"cat {name} >/dev/null")],
        measure=micro(f"random-{kind}", name, block, times),
        stage=fixtures.large(16 << 20).parent,
    )


@workload
def random_read(scale, fixtures):
    """A database reads pages of a file in use."""
    yield random_io("read", 512, scale.random_times, fixtures)
    yield random_io("read", 64 << 10, scale.random_times // 8, fixtures)


@workload
def random_write(scale, fixtures):
    """A linker or a database writes here and there."""
    yield random_io("write", 512, scale.random_times, fixtures)
    yield random_io("write", 64 << 10, scale.random_times // 8, fixtures)


@workload
def churn(scale, fixtures):
    """A tool's temporary file: created, 4 KiB written, closed, unlinked."""
    yield Inside(
        name="churn",
        unit="file",
        count=scale.churn_times,
        measure=micro("churn", scale.churn_times, SMALL_FILE_BYTES),
    )


# One large file.


def large(name, size, measure, *, stage=None, prepare=(), copies=1):
    return Inside(
        name=f"{name}-{bytes_text(size)}",
        unit="MiB",
        count=size >> 20,
        size=size,
        size_unit="bytes",
        needs_bytes=(copies + 1) * size,
        memory_bytes=(2 * copies + 1) * size,
        measure=measure,
        stage=stage,
        prepare=list(prepare),
    )


@workload
def write(scale, fixtures):
    """A large file is written from its beginning to its end (dd)."""
    for size in scale.large_sizes:
        yield large(
            "write", size, timed("dd", "if=/dev/zero", "of=new", "bs=1M", f"count={size >> 20}")
        )


@workload
def read(scale, fixtures):
    """A large file that was staged is read for the first time (cat)."""
    for size in scale.large_sizes:
        file = fixtures.large(size)
        yield large("read", size, timed(*shell("cat large >/dev/null")), stage=file.parent)


@workload
def reread(scale, fixtures):
    """The same file is read again."""
    for size in scale.large_sizes:
        file = fixtures.large(size)
        again = shell("cat large >/dev/null")
        yield large("reread", size, timed(*again), prepare=[again], stage=file.parent)


@workload
def cp(scale, fixtures):
    """A large file is copied."""
    for size in scale.large_sizes:
        file = fixtures.large(size)
        yield large("cp", size, timed("cp", "large", "copy"), stage=file.parent, copies=2)


@workload
def mmap_read(scale, fixtures):
    """A large file that was staged is read through a mapping."""
    for size in scale.large_sizes:
        file = fixtures.large(size)
        yield large("mmap-read", size, micro("mmap-read", "large"), stage=file.parent)


@workload
def mmap_write(scale, fixtures):
    """A large file is written through a mapping, as linkers do."""
    for size in scale.large_sizes:
        yield large("mmap-write", size, micro("mmap-write", "new", size))


# Trees.


@workload
def untar(scale, fixtures):
    """A source archive is unpacked."""
    yield Inside(
        name="untar",
        unit="file",
        count=scale.tar_files,
        measure=timed("tar", "-xf", fixtures.tarball),
    )


@workload
def rm(scale, fixtures):
    """The same tree is removed."""
    yield Inside(
        name="rm",
        unit="file",
        count=scale.tar_files,
        prepare=[["tar", "-xf", fixtures.tarball]],
        measure=timed("rm", "-rf", "tree"),
    )


def clone(fixtures):
    # Hard links are no clone, and between file systems not possible.
    return ["git", "clone", "-q", "--no-hardlinks", fixtures.repository, "clone"]


@workload
def git_clone(scale, fixtures):
    """A repository is cloned and checked out."""
    yield Inside(
        name="git-clone", unit="file", count=scale.repository_files, measure=timed(*clone(fixtures))
    )


@workload
def git_status(scale, fixtures):
    """git status in a clone, the second time: the first writes the index anew."""
    status = ["git", "-C", "clone", "status", "--short"]
    yield Inside(
        name="git-status",
        unit="file",
        count=scale.repository_files,
        prepare=[clone(fixtures), status],
        measure=timed(*status),
    )


@workload
def sqlite(scale, fixtures):
    """Rows are inserted in SQLite, each in a transaction of its own: a journal made, synced, removed."""
    yield Inside(
        name="sqlite",
        unit="row",
        count=scale.rows,
        measure=[sys.executable, HERE / "sqlite_inserts.py", "{elapsed}", scale.rows],
    )


# Directories of many files.


def sized_directory(name, files, measure, *, count, prepare=()):
    return Inside(
        name=f"{name}-{files}",
        unit="file",
        count=count,
        size=files,
        size_unit="files in the directory",
        # An inode and its name; tmpfs takes more than that from its own limit of inodes.
        needs_bytes=files * 1024,
        memory_bytes=files * 2048,
        measure=measure,
        prepare=list(prepare),
    )


@workload
def create(scale, fixtures):
    """Empty files are created in one directory: does the last cost what the first did?"""
    for files in scale.directory_sizes:
        yield sized_directory("create", files, micro("create", files, 0, 0), count=files)


@workload
def readdir(scale, fixtures):
    """A directory is listed for the second time."""
    for files in scale.directory_sizes:
        passes = max(1, scale.directory_sizes[-1] // files)
        yield sized_directory(
            "readdir",
            files,
            micro("list", files, passes),
            count=files * passes,
            prepare=[untimed("create", files, 0, 0), untimed("list", files, 1)],
        )


@workload
def create_spread(scale, fixtures):
    """The same files in many directories: 1,000 of them, or a hundredth of the files where that is less."""
    files = scale.directory_sizes[-1]
    yield Inside(
        name=f"create-spread-{files}",
        unit="file",
        count=files,
        needs_bytes=files * 1024,
        memory_bytes=files * 2048,
        measure=micro("create", files, min(1000, files // 100), 0),
    )
