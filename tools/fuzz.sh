#!/bin/sh
# Runs the coverage-guided fuzzers of fuzz/, two at a time, each for FUZZ_SECONDS (10), and says how many inputs each has
# tried. FUZZ_SEED (0: another each time) makes them draw the same again. What they find on the way is kept in
# target/fuzz/corpus; an input that fails is kept, named and shown.
#
#   tools/fuzz.sh [TARGET...]
set -eu
cd "$(dirname "$0")/.."
FUZZ_SECONDS=${FUZZ_SECONDS:-10}
FUZZ_SEED=${FUZZ_SEED:-0}
export FUZZ_SECONDS FUZZ_SEED

if [ "${1:-}" = --one ]; then
    target=$2
    mkdir -p "target/fuzz/corpus/$target" target/fuzz/failures
    status=0
    "target/fuzz/$(rustc -vV | sed -n 's/^host: //p')/release/$target" -max_total_time="$FUZZ_SECONDS" -seed="$FUZZ_SEED" -timeout=10 \
        -rss_limit_mb=1024 -max_len=512 -print_final_stats=1 -artifact_prefix="target/fuzz/failures/$target-" \
        "target/fuzz/corpus/$target" "fuzz/corpus/$target" >"target/fuzz/$target.log" 2>&1 || status=$?
    if [ "$status" -eq 0 ]; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "target/fuzz/$target.log") inputs"
    else
        echo "$target: FAILED"
        grep -v '^#' "target/fuzz/$target.log" | tail -n 40
    fi
    exit "$status"
fi

# What cargo-fuzz passes: counters at every edge, and the operands of comparisons. No part of it needs a nightly compiler.
host=$(rustc -vV | sed -n 's/^host: //p')
llvm=-Cllvm-args=-sanitizer-coverage
RUSTFLAGS="-Cpasses=sancov-module $llvm-level=4 $llvm-inline-8bit-counters $llvm-pc-table $llvm-trace-compares" \
    cargo build --release --locked --manifest-path fuzz/Cargo.toml --target "$host" --target-dir target/fuzz
[ $# -gt 0 ] || set -- $(ls fuzz/corpus)
printf '%s\n' "$@" | xargs -n 1 -P 2 "$0" --one
