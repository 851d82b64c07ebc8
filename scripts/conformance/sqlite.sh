# SQLite from four processes at once, with a write-ahead log (shared memory) and with rollback journals.
# shellcheck shell=bash disable=SC2154 # sourced by ../conformance.sh, which says what a suite finds

suite_sqlite() {
    local transactions=$((quick ? 40 : 500)) mode
    for mode in wal delete truncate persist; do
        timeout 300 python3 "$here/conformance/sqlite_writers.py" "$mount/$mode.db" "$mode" 4 "$transactions" \
            >"$logs/sqlite.$mode" 2>&1 || {
            say "SQLite, journal mode $mode: $(tail -n 3 "$logs/sqlite.$mode")"
            return 1
        }
    done
    say "SQLite: 4 processes of $transactions transactions in the journal modes wal, delete, truncate and persist; whole"
}
