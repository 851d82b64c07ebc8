#!/usr/bin/env bash
# Makes a hosted runner what a user's machine is: the tools of the tests, /dev/fuse for everyone, and user namespaces, which
# Ubuntu's AppArmor restricts. Wants root, and a machine that is thrown away: it changes a setting of the kernel.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

scripts/install-deps.sh test
setting=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
[[ ! -e $setting ]] || echo 0 >"$setting"
