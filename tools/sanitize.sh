#!/bin/sh
# Tests under the address sanitizer: what reads or writes memory that is not its own, or not any more, is reported and
# ends the process.
#
#   tools/sanitize.sh python PYTHON ARGS...   PYTHON runs pytest with ARGS; it has the wheel of VARIANT=asan
#   tools/sanitize.sh rust                    the Rust tests of the reactor and of wire
#
# Python itself is not built for it and need not be: PYTHONMALLOC=malloc gives every object a piece of memory of its own,
# which the sanitizer knows, and it is our code whose accesses are checked. The child processes of tests are watched in
# the same way, so reports go to files. SANITIZE_MALLOC=debug uses Python's own marks around each object instead.
set -eu
cd "$(dirname "$0")/.."
what=${1:-}
[ $# -eq 0 ] || shift
reports=$PWD/target/sanitize
rm -rf "$reports"
mkdir -p "$reports"
# Leaks are not its subject here (make refcounts): an interpreter frees little when it ends. A call that asks for more
# memory than there is gets none, as without it.
export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:handle_segv=1:log_path=$reports/report${ASAN_OPTIONS:+:$ASAN_OPTIONS}"

status=0
case $what in
python)
    python=$1
    shift
    LD_PRELOAD=$(cc -print-file-name=libasan.so) PYTHONMALLOC=${SANITIZE_MALLOC:-malloc} ASYNCHROTRON_REQUIRED=1 \
        "$python" -m pytest -p no:cacheprovider "$@" || status=$?
    ;;
rust)
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes" \
        cargo test -p asynchrotron-reactor -p asynchrotron-wire --features asynchrotron-reactor/faults --locked \
        --target "$(rustc -vV | sed -n 's/^host: //p')" --target-dir target/asan "$@" || status=$?
    ;;
*) sed -n '2,6p' "$0" | cut -c3-; exit 2 ;;
esac
for report in "$reports"/*; do
    [ -e "$report" ] || break
    head -n 60 "$report"
    echo "sanitize: the whole report is in $report"
    status=1
done
exit "$status"
