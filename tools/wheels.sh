#!/bin/sh
# Builds the wheel for each Python named (a version, a path, "default" or "all") into target/wheels/<version>/; with
# FEATURES=faults, the one for tests/faults into target/wheels/<version>-faults/; it has all of Rust's checks. With
# VARIANT=debug or VARIANT=asan, one with those checks, or with the address sanitizer's, too, into
# target/wheels/<version>-<variant>/. With LIBC=2.17, those for other machines into dist/: zig, as the linker, knows the
# symbols of that libc, and the wheels say manylinux.
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
    name=$minor${VARIANT:+-$VARIANT}
    set -- build --locked --target-dir "target/py$name" ${FEATURES:+--features "$FEATURES"}
    case ${VARIANT:-}${FEATURES:-} in
    "") set -- "$@" --release ;;
    *) set -- "$@" --profile checked --strip false ;;
    esac
    if [ "${VARIANT:-}" = asan ]; then
        # Sanitizers are for nightly compilers, which a stable one is when told so. The free lists of dead objects would
        # hide from it what is used after its end. A target that is named keeps the flags away from build scripts.
        export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes"
        set -- "$@" --features no-free-lists --target "$(rustc -vV | sed -n 's/^host: //p')"
    fi
    if [ -n "${LIBC:-}" ]; then
        set -- "$@" --zig --compatibility "manylinux_$(echo "$LIBC" | tr . _)" --out dist
    else
        out=target/wheels/$name${FEATURES:+-$FEATURES}
        rm -rf "$out"
        mkdir -p "$out" target/wheels
        # "linux" says: for this machine and its like.
        set -- "$@" --compatibility linux --out "$out"
    fi
    case $python in
    *" "*)
        config=$PWD/target/wheels/pyo3-$minor.txt
        printf '%s\n' implementation=CPython "version=$minor" pointer_width=64 shared=true abi3=false >"$config"
        PYO3_CONFIG_FILE=$config "$maturin" "$@" </dev/null
        ;;
    *) "$maturin" "$@" --interpreter "$python" </dev/null ;;
    esac
done
