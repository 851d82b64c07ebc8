"""The machine, as far as it matters to the figures. No names of hosts or users."""

import os
import platform
import subprocess
from pathlib import Path

# Per CPU; above it, others take time that the figures then show.
HIGH_LOAD = 0.3


def gather(notapipe, tmpfs, disk, environment):
    return {
        "notapipe": said(notapipe, "--version", environment=environment),
        "commit": commit(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": cpu_model(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": list(os.getloadavg()),
        "user": "root" if os.geteuid() == 0 else "ordinary user",
        "tmpfs": file_system(tmpfs),
        "disk": disk and file_system(disk),
        "rgbds": said("rgbasm", "--version", environment=environment),
        "python": platform.python_version(),
    }


def is_load_high(facts):
    return facts["load_average"][0] > HIGH_LOAD * facts["cpus"]


def said(*command, environment):
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return result.stdout.strip()


def commit():
    """The commit that is checked out, with a mark where files differ from it."""
    here = Path(__file__).resolve().parent
    command = ("git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*")
    return said(*command, environment=os.environ)


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    return platform.machine()


def file_system(directory):
    """The type of the file system that a directory is on (proc_pid_mountinfo(5))."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split()
            if fields[2] == wanted:
                return fields[fields.index("-") + 1]
    return "unknown"
