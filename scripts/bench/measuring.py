"""Runs a case in all places, in turn, and tells the ratios."""

import contextlib
import dataclasses
import os
import shutil
import statistics
import time

from places import Failed

# Every ratio is to this place.
REFERENCE = "tmpfs"


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The median of the ratios of one round each, and the smallest and the largest of them."""

    median: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Result:
    """What the rounds of a case gave."""

    case: object
    # By the place's name, one for each round that it took part in.
    seconds: dict[str, list[float]]
    # What the kernel asked in one round, by kind and in `total`.
    requests: dict[str, int] | None
    # The same for the workload held on one CPU; empty when that was not asked for.
    pinned_seconds: dict[str, list[float]]
    # The share of the CPUs that other processes took meanwhile.
    others: float
    # All of it: preparations, rounds, clearing up.
    wall_seconds: float

    def seconds_per_one(self, place):
        return statistics.median(self.seconds[place]) / self.case.count

    def requests_per_one(self):
        return None if self.requests is None else self.requests["total"] / self.case.count

    def ratio(self, place):
        return ratio(self.seconds, place)

    def pinned_ratio(self, place):
        return ratio(self.pinned_seconds, place)

    def added_seconds_per_one(self, place):
        """The median of what the place took more than the reference in the same round."""
        if REFERENCE not in self.seconds or place not in self.seconds:
            return None
        pairs = zip(self.seconds[place], self.seconds[REFERENCE])
        return statistics.median(mine - base for mine, base in pairs) / self.case.count


def ratio(seconds, place):
    """None when the case did not run in both places."""
    if place not in seconds or REFERENCE not in seconds:
        return None
    ratios = [mine / base for mine, base in zip(seconds[place], seconds[REFERENCE])]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def measure(case, places, rounds, pin, progress):
    """Raises `Failed` when the case cannot be measured in one of the places."""
    places = [place for place in places if runs_in(case, place)]
    for place in places:
        free = shutil.disk_usage(place.base).free
        if free < case.needs_bytes:
            raise Failed(
                f"needs {case.needs_bytes >> 20} MiB, {place.base} has {free >> 20} free:"
                f" name another directory (--tmpfs, --disk)"
            )
    busy, own, began = busy_seconds(), own_seconds(), time.monotonic()
    seconds, requests = run_rounds(case, places, rounds, progress)
    pinned = {}
    if pin:
        with one_cpu():
            pinned, _ = run_rounds(case, places, rounds, progress)
    wall = time.monotonic() - began
    others = (busy_seconds() - busy) - (own_seconds() - own)
    share = max(0.0, others / (wall * os.cpu_count()))
    return Result(case, seconds, requests, pinned, share, wall)


def runs_in(case, place):
    return place.name in getattr(case, "commands", {place.name: None})


def run_rounds(case, places, rounds, progress):
    """The seconds by place, and the requests of the last round."""
    progress(0)
    # Not counted: it brings the tools and the inputs into memory, for whoever comes first.
    places[0].run(case)
    seconds = {place.name: [] for place in places}
    requests = None
    for number in range(rounds):
        progress(number + 1)
        for place in places:
            if place.turns is not None and number >= place.turns:
                continue
            sample = place.run(case)
            seconds[place.name].append(sample.seconds)
            if sample.requests is not None:
                requests = sample.requests
    return seconds, requests


@contextlib.contextmanager
def one_cpu():
    """Holds us, and so everything that we start, on one CPU."""
    before = os.sched_getaffinity(0)
    # The last: the first is where most machines have their interrupts.
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_seconds():
    """CPU time that all processes of the machine have used (proc_stat(5))."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def own_seconds():
    """CPU time that we and those we waited for have used."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
