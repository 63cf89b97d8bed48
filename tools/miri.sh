#!/bin/sh
# Runs the tests of the Rust crates without Python under Miri, which sees undefined behaviour that nothing else does
# (references that alias, memory read before it is written, data races), in an interpreter of Rust. It comes with nightly
# toolchains only: the one named here is fetched by rustup, beside the others, and used for nothing else.
#
#   tools/miri.sh setup          fetch it; fails, with the reason on the last line, where that cannot be
#   tools/miri.sh [ARG...]       run, with cargo's arguments for one run: -p asynchrotron-wire --test write_queue
#
# What Miri has no system call for is marked in the tests. MIRI_SEEDS (32) is how many interleavings are tried where threads
# wake each other, PROPTEST_CASES (2) how many sequences of calls of each property.
set -eu
cd "$(dirname "$0")/.."
TOOLCHAIN=nightly-2026-10-30
MIRI_SEEDS=${MIRI_SEEDS:-32}
PROPTEST_CASES=${PROPTEST_CASES:-2}
# Files, sockets and the clock are the machine's own.
MIRIFLAGS="-Zmiri-disable-isolation"
export PROPTEST_CASES MIRIFLAGS

miri() { cargo "+$TOOLCHAIN" miri "$@"; }

setup() {
    if miri --version >/dev/null 2>&1; then return; fi
    command -v rustup >/dev/null || { echo "miri: no rustup here, which fetches nightly toolchains"; exit 1; }
    rustup toolchain install "$TOOLCHAIN" --profile minimal --component miri --component rust-src || {
        echo "miri: rustup cannot fetch $TOOLCHAIN"
        exit 1
    }
}

run() { miri test --locked --target-dir target/miri "$@"; }

setup
if [ "${1:-}" = setup ]; then exit; fi
if [ $# -gt 0 ]; then
    run "$@"
    exit
fi
run -p asynchrotron-wire
run -p asynchrotron-reactor
# The seeds run two at a time and write through each other.
if MIRIFLAGS="$MIRIFLAGS -Zmiri-many-seeds=1..$((MIRI_SEEDS + 1))" \
    run -p asynchrotron-reactor --test waker >target/miri/seeds.log 2>&1; then
    echo "waker: $MIRI_SEEDS interleavings"
else
    cat target/miri/seeds.log
    exit 1
fi
