# CPython's own tests of everything that touches files: what passes on tmpfs passes in the mount.
# shellcheck shell=bash disable=SC2154 # sourced by ../conformance.sh, which says what a suite finds

readonly CPYTHON_MODULES='test_os test_posix test_shutil test_tempfile test_mmap test_fcntl test_glob test_pathlib
    test_zipfile test_tarfile test_sqlite3 test_largefile'
readonly CPYTHON_QUICK='test_tempfile test_mmap test_fcntl test_glob'

# Runs the modules with everything temporary in directory $1, and leaves the names of the cases that passed in $2.
cpython_in() {
    local modules=() module status=0
    for module in $( ((quick)) && echo "$CPYTHON_QUICK" || echo "$CPYTHON_MODULES"); do
        # Debian leaves some out of its package.
        if /usr/bin/python3 -c "import importlib.util as u; exit(u.find_spec('test.$module') is None)"; then
            modules+=("$module")
        else
            say "CPython's tests: no $module in this system's package"
        fi
    done
    (cd "$1" && TMPDIR=$1 HOME=$1 timeout 1500 /usr/bin/python3 -m test --tempdir "$1" -u largefile -j1 --timeout 600 \
        --junit-xml "$2.xml" "${modules[@]}") >"$2.log" 2>&1 </dev/null || status=$?
    ((status != 124)) || say "CPython's tests hang in $1; their last line: $(tail -n 1 "$2.log")"
    /usr/bin/python3 - "$2.xml" >"$2" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree

passed = set()
for case in tree.parse(sys.argv[1]).iter("testcase"):
    name = case.get("name")
    if not len(case.findall("failure") + case.findall("error") + case.findall("skipped")):
        passed.add(name)
print("\n".join(sorted(passed)))
PYTHON
}

suite_cpython() {
    local lacking
    cpython_in "$tmpfs" "$logs/cpython.tmpfs" 2>/dev/null && cpython_in "$mount" "$logs/cpython.mount" || return 1
    lacking=$(LC_ALL=C comm -23 <(LC_ALL=C sort "$logs/cpython.tmpfs") <(LC_ALL=C sort "$logs/cpython.mount"))
    say "CPython's tests: $(wc -l <"$logs/cpython.mount") cases passed, on tmpfs $(wc -l <"$logs/cpython.tmpfs")"
    [[ -z $lacking ]] || say "passed on tmpfs only:"$'\n'"$lacking"
    [[ -s $logs/cpython.mount && -z $lacking ]]
}
