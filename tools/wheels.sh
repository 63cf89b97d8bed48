#!/bin/sh
# Builds the wheel for each Python named (a version, a path, "default" or "all") into target/wheels/<version>/.
#
# Each version has a cargo target folder of its own: a shared one would compile everything again whenever the version
# changes. For the Pythons of sidroot.sh compiler and linker are this machine's too: its older libc is what lets the
# result run here and there. They are described by a file instead of being asked, since cargo cannot start them, and an
# extension module links against no libpython.
set -eu
cd "$(dirname "$0")/.."
maturin=${MATURIN:-.venv/build/bin/maturin}

pythons=$(for wanted in "${@:-default}"; do tools/pythons.sh "$wanted"; done)
echo "$pythons" | while read -r minor python; do
    out=target/wheels/$minor
    rm -rf "$out"
    mkdir -p "$out"
    # "linux" says: for this machine and its like. A wheel for others would be built against the oldest libc and say
    # manylinux.
    set -- build --release --locked --compatibility linux --target-dir "target/py$minor" --out "$out"
    case $python in
    *" "*)
        config=$PWD/target/wheels/pyo3-$minor.txt
        printf '%s\n' implementation=CPython "version=$minor" pointer_width=64 shared=true abi3=false >"$config"
        PYO3_CONFIG_FILE=$config "$maturin" "$@" </dev/null
        ;;
    *) "$maturin" "$@" --interpreter "$python" </dev/null ;;
    esac
done
