"""The results as an aligned table, and as JSON."""

import dataclasses
import json

# Of the JSON: fields may be added within a version.
VERSION = 1

LEFT = {"workload", "one"}


def time_text(seconds):
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if abs(seconds) * factor >= 1:
            return f"{seconds * factor:.3g} {unit}" if abs(seconds) < 1000 else f"{seconds:.0f} s"
    return f"{seconds * 1e9:.0f} ns"


def ratio_text(ratio):
    if ratio is None:
        return "-"
    median, low, high = (
        f"{it:.2f}" if it >= 0.01 else f"{it:.4f}" for it in (ratio.median, ratio.low, ratio.high)
    )
    # Of one round there is no spread to show.
    return median if ratio.low == ratio.high else f"{median} ({low}..{high})"


def requests_text(requests):
    if requests is None:
        return "-"
    # Zero is a promise; almost zero is not.
    if 0 < requests < 0.01:
        return "<0.01"
    return f"{requests:,.0f}" if requests >= 100 or requests == 0 else f"{requests:.2f}"


def header(facts, rounds):
    gibibytes = facts["memory_bytes"] / (1 << 30)
    taken = f"medians of {rounds} rounds" if rounds > 1 else "of one round"
    disk = f"; disk: {facts['disk']}, one round" if facts["disk"] else ""
    load = " ".join(f"{load:.2f}" for load in facts["load_average"])
    return "\n".join(
        [
            f"{facts['notapipe']} (commit {facts['commit']}), {facts['rgbds']}",
            f"{facts['kernel']}, {facts['cpus']} CPUs ({facts['cpu']}), {gibibytes:.0f} GiB,"
            f" load {load}, as {facts['user']}",
            f"times and requests of one; {taken}; ×: to tmpfs in the same round,"
            f" median (least..most){disk}",
        ]
    )


def row(result, pin, disk):
    seconds = result.seconds
    added = result.added_seconds_per_one("notapipe")
    cells = {
        "workload": result.case.name,
        "one": result.case.unit,
        "tmpfs": time_text(result.seconds_per_one("tmpfs")) if "tmpfs" in seconds else "-",
        "notapipe": time_text(result.seconds_per_one("notapipe")),
        "adds": "-" if added is None else time_text(added),
        "× tmpfs": ratio_text(result.ratio("notapipe")),
        "tmpfs backing × tmpfs": ratio_text(result.ratio("tmpfs backing")),
    }
    if pin:
        cells["× on one CPU"] = ratio_text(result.pinned_ratio("notapipe"))
    if disk:
        cells["disk × tmpfs"] = ratio_text(result.ratio("disk"))
    cells["requests"] = requests_text(result.requests_per_one())
    return cells


def text(results, pin, disk):
    rows = [row(result, pin, disk) for result in results]
    if not rows:
        return ""
    titles = {title: title for title in rows[0]}
    widths = {title: max(len(cells[title]) for cells in [titles, *rows]) for title in titles}
    lines = []
    for cells in [titles, *rows]:
        aligned = [
            cell.ljust(widths[title]) if title in LEFT else cell.rjust(widths[title])
            for title, cell in cells.items()
        ]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def ratio_json(ratio):
    return None if ratio is None else dataclasses.asdict(ratio)


def as_json(facts, results, failures, rounds):
    workloads = [
        {
            "name": result.case.name,
            "unit": result.case.unit,
            "count": result.case.count,
            "size": result.case.size,
            "size_unit": result.case.size_unit or None,
            "seconds": result.seconds,
            "pinned_seconds": result.pinned_seconds,
            "ratio": ratio_json(result.ratio("notapipe")),
            "tmpfs_backing_ratio": ratio_json(result.ratio("tmpfs backing")),
            "pinned_ratio": ratio_json(result.pinned_ratio("notapipe")),
            "disk_ratio": ratio_json(result.ratio("disk")),
            "requests": result.requests,
            "others_cpu_share": result.others,
            "wall_seconds": result.wall_seconds,
        }
        for result in results
    ]
    document = {
        "version": VERSION,
        "facts": facts,
        "rounds": rounds,
        "workloads": workloads,
        "failures": failures,
    }
    return json.dumps(document, indent=2) + "\n"
