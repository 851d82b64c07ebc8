#!/usr/bin/env python3
"""Reads podman's seccomp profile and writes one that refuses what Docker's default profile refuses.

    docker-seccomp.py < /usr/share/containers/seccomp.json > docker.json

Podman lets every container make namespaces and mounts; Docker only one that has CAP_SYS_ADMIN, and none may use keyrings.
"""

import json
import sys

ADMIN = """bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree
perf_event_open quotactl setdomainname sethostname setns syslog umount umount2 unshare""".split()
NEVER = "add_key keyctl pivot_root request_key userfaultfd".split()
NAMESPACES = 0x7E020000  # CLONE_NEW* of clone(2)


def rule(names, action, **more):
    return {"names": names, "action": action, "args": [], "includes": {}, "excludes": {}, **more}


profile = json.load(sys.stdin)
for known in profile["syscalls"]:
    known["names"] = [name for name in known["names"] if name not in ADMIN + NEVER]
with_admin = {"caps": ["CAP_SYS_ADMIN"]}
profile["syscalls"] = [known for known in profile["syscalls"] if known["names"]] + [
    rule(ADMIN, "SCMP_ACT_ALLOW", includes=with_admin),
    rule(
        ["clone"],
        "SCMP_ACT_ALLOW",
        args=[{"index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        excludes=with_admin,
    ),
    # glibc then falls back to clone, whose flags the profile can read.
    rule(["clone3"], "SCMP_ACT_ERRNO", errnoRet=38, errno="ENOSYS", excludes=with_admin),
]
profile["defaultErrnoRet"], profile["defaultErrno"] = 1, "EPERM"
json.dump(profile, sys.stdout)
