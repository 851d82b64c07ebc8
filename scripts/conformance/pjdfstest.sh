# pjdfstest: POSIX, call by call, as root and as the users whom it becomes.
# shellcheck shell=bash disable=SC2154 # sourced by ../conformance.sh, which says what a suite finds

readonly PJDFSTEST=0.2.2
# One more is needed than every machine has.
readonly SECOND_USER=notapipe-tests
made_user=0
# Its configuration: what Linux has, and the two users whom it becomes.
pjdfstest_configuration() {
    cat <<TOML
[features]
posix_fallocate = {}
rename_ctime = {}
utimensat = {}
utime_now = {}

[settings]
# Seconds between two changes whose times must differ: over a timer tick at 100 Hz.
naptime = 0.02
allow_remount = false

[dummy_auth]
entries = [["nobody", "$(id -gn nobody)"], ["$SECOND_USER", "$SECOND_USER"]]
TOML
}

# Runs it in the directory $1 and leaves its output in $2, without the colours.
pjdfstest_in() {
    local status=0
    timeout 600 "$pjdfstest" -c "$logs/pjdfstest.toml" -p "$1" >"$2.raw" 2>&1 || status=$?
    sed 's/\x1b\[[0-9;]*m//g' "$2.raw" >"$2"
    ((status != 124)) || say "pjdfstest hangs in $1; its last line: $(tail -n 1 "$2")"
}

# The cases with the result $2 in the output $1.
pjdfstest_cases() {
    awk -v result="$2" '$2 == result && NF == 2 { print $1 }' "$1" | sort
}

suite_pjdfstest() {
    local pjdfstest failed lacking
    pjdfstest=$("$here/install-cargo-tool.sh" pjdfstest "$PJDFSTEST") || return 1
    pjdfstest_configuration >"$logs/pjdfstest.toml"
    pjdfstest_in "$tmpfs" "$logs/pjdfstest.tmpfs"
    pjdfstest_in "$mount" "$logs/pjdfstest.mount"
    say "pjdfstest on tmpfs:     $(grep '^Summary' "$logs/pjdfstest.tmpfs" || echo 'no summary')"
    say "pjdfstest in the mount: $(grep '^Summary' "$logs/pjdfstest.mount" || echo 'no summary')"
    # Every case that passes on tmpfs passes here; so nothing fails, and nothing more is skipped.
    lacking=$(comm -23 <(pjdfstest_cases "$logs/pjdfstest.tmpfs" ok) \
        <(pjdfstest_cases "$logs/pjdfstest.mount" ok))
    failed=$(pjdfstest_cases "$logs/pjdfstest.mount" FAILED)
    [[ -z $lacking ]] || say "passed on tmpfs only:"$'\n'"$lacking"
    [[ -z $failed ]] || say "failed in the mount:"$'\n'"$failed"
    # A run that ended early, or a configuration that switched cases off, must not look like a good one.
    grep -q '^Summary: 0 failed, 16 skipped, 382 passed' "$logs/pjdfstest.tmpfs" ||
        say "tmpfs of this kernel ($(uname -r)) has other figures than 382 passed, 16 skipped, 0 failed"
    grep -q '^Summary: 0 failed' "$logs/pjdfstest.tmpfs" && grep -q '^Summary: 0 failed' "$logs/pjdfstest.mount" &&
        [[ -z $lacking$failed ]]
}

# The second user, removed again at the end if it was not there.
ensure_second_user() {
    id -u "$SECOND_USER" >/dev/null 2>&1 && return
    type -P useradd >/dev/null || die "no useradd here: make a user and a group $SECOND_USER"
    useradd --system --user-group --no-create-home --shell /usr/sbin/nologin "$SECOND_USER" || return 1
    made_user=1
}

remove_second_user() {
    ((made_user == 0)) || userdel "$SECOND_USER"
    made_user=0
}
