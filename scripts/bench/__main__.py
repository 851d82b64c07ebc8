"""Compares notapipe with a directory on tmpfs and with one on disk. See scripts/bench.sh."""

import argparse
import dataclasses
import fnmatch
import os
import signal
import sys
import tempfile
from pathlib import Path

import facts
import fixtures
import measuring
import places
import plot
import table
from workloads import WORKLOADS

# Of the CPUs, taken by others meanwhile: from here on the table says so.
NOTICEABLE_OTHERS = 0.1


def parse():
    parser = argparse.ArgumentParser(
        prog="scripts/bench.sh",
        description="Compares notapipe with a directory on tmpfs and with one on disk.",
        epilog="The places take turns, and each time is compared with that of tmpfs in the same round.",
    )
    parser.add_argument("--notapipe", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="small sizes and no disk: done in a minute")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these workloads; * and ? match as in a shell"
    )
    parser.add_argument("--rounds", type=int, help="how often each is measured (default: 5; quick: 3)")
    parser.add_argument(
        "--pin", action="store_true", help="measure everything on one CPU as well, one column more"
    )
    parser.add_argument("--files", type=int, metavar="N", help="of the Game Boy project (20 to 8000)")
    parser.add_argument(
        "--entries", type=int, metavar="N", help="of the largest directory (1000 or more)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", help="write a plot of cost against size to FILE"
    )
    parser.add_argument(
        "--tmpfs", type=Path, metavar="DIR", default=Path("/dev/shm"), help="default: %(default)s"
    )
    parser.add_argument(
        "--disk",
        type=Path,
        metavar="DIR",
        help="takes its turn in the first round only (default: /var/tmp; quick: no disk)",
    )
    parser.add_argument("--list", action="store_true", help="list the workloads and end")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 3 if options.quick else 5
    if options.disk is None and not options.quick:
        options.disk = Path("/var/tmp")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.entries is not None and options.entries < 1000:
        parser.error("--entries must be at least 1000")
    for pattern in options.only or []:
        if not fnmatch.filter(WORKLOADS, pattern):
            parser.error(f"no workload is named {pattern}: --list shows them")
    for directory in filter(None, [options.tmpfs, options.disk]):
        if not directory.is_dir():
            parser.error(f"{directory} is not a directory")
    if not options.list and facts.file_system(options.tmpfs) != "tmpfs":
        parser.error(f"{options.tmpfs} is not on a tmpfs: name a directory that is, with --tmpfs")
    return options


def scale(options):
    chosen = fixtures.QUICK if options.quick else fixtures.FULL
    if options.files is not None:
        chosen = dataclasses.replace(chosen, project_files=options.files)
    if options.entries is not None:
        sizes = [1000]
        while sizes[-1] * 10 <= options.entries:
            sizes.append(sizes[-1] * 10)
        chosen = dataclasses.replace(chosen, directory_sizes=tuple(sizes))
    return chosen


def environment():
    """Ours, without what would make the tools behave differently from user to user."""
    settings = {"LC_ALL": "C", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    removed = {"MAKEFLAGS", "MAKELEVEL", "GIT_DIR", "GIT_WORK_TREE"}
    return {name: value for name, value in os.environ.items() if name not in removed} | settings


class Progress:
    """One line on the terminal's error stream that is written over; nothing where there is no terminal."""

    def __init__(self, rounds):
        self._rounds = rounds
        self._shown = sys.stderr.isatty()

    def show(self, words):
        if self._shown:
            print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)

    def round_of(self, name):
        return lambda number: self.show(
            f"{name}: round {number} of {self._rounds}" if number else f"{name}: warming up"
        )


def warn(words):
    print(f"bench: {words}", file=sys.stderr)


def measure_all(options, tools, made, progress):
    """The results, and the messages of what failed by its name."""
    everywhere = [
        places.Directory("tmpfs", options.tmpfs, tools),
        places.Notapipe("notapipe", options.tmpfs, tools, "fuse"),
        places.Notapipe("tmpfs backing", options.tmpfs, tools, "tmpfs"),
    ]
    if options.disk:
        # There for the order of magnitude; many a disk would take most of the time.
        everywhere.append(places.Directory("disk", options.disk, tools, turns=1))
    results, failures = [], {}
    size = scale(options)
    for name, function in WORKLOADS.items():
        if options.only and not any(fnmatch.fnmatch(name, it) for it in options.only):
            continue
        progress.show(f"{name}: preparing")
        try:
            cases = list(function(size, made))
        except places.Failed as failure:
            failures[name] = str(failure)
            continue
        for case in cases:
            show = progress.round_of(case.name)
            try:
                result = measuring.measure(case, everywhere, options.rounds, options.pin, show)
            except places.Failed as failure:
                failures[case.name] = str(failure)
            else:
                results.append(result)
    progress.show("")
    return results, failures


def main():
    options = parse()
    if options.list:
        for name, function in WORKLOADS.items():
            print(f"{name:14} {function.__doc__}")
        return 0
    machine = facts.gather(options.notapipe, options.tmpfs, options.disk, environment())
    if facts.is_load_high(machine):
        warn("this machine is busy (see its load below): the figures are not to be trusted")
    # Programs may not be started from the tmpfs of some containers, so the tools lie elsewhere.
    with (
        tempfile.TemporaryDirectory(prefix="notapipe-bench-") as directory,
        tempfile.TemporaryDirectory(prefix="notapipe-bench-", dir=options.tmpfs) as base,
    ):
        tools = places.Tools(options.notapipe, options.tmpfs, Path(directory), environment())
        made = fixtures.Fixtures(base, scale(options), environment())
        results, failures = measure_all(options, tools, made, Progress(options.rounds))
    print(table.header(machine, options.rounds))
    print()
    print(table.text(results, pin=options.pin, disk=options.disk is not None))
    if options.json:
        text = table.as_json(machine, results, failures, options.rounds)
        options.json.write_text(text, encoding="utf-8")
    if options.svg:
        options.svg.write_text(plot.svg(results), encoding="utf-8")
    disturbed = [result.case.name for result in results if result.others > NOTICEABLE_OTHERS]
    if disturbed:
        warn(f"other processes took CPU time during: {', '.join(disturbed)}")
    for name, message in failures.items():
        warn(f"{name}: not measured: {message}")
    return 1 if failures else 0


if __name__ == "__main__":
    # Ended like this too, the temporary directories go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
