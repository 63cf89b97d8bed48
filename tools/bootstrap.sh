#!/bin/sh
# Looks for what a build needs and lets apt-get install what is missing, so that `make` works on a fresh Debian machine.
#
#   tools/bootstrap.sh build PYTHON...    a linker, Rust, and that Python's venv module
#   tools/bootstrap.sh tests PYTHON...    the interpreter's own test suite as well
#   tools/bootstrap.sh fuzz               Rust, and a C++ compiler for libFuzzer
#   tools/bootstrap.sh debug PYTHON       Debian's debug build of a Python, as /usr/bin/python3.11-dbg
#   tools/bootstrap.sh openssl            the command, which makes certificates
set -eu

what=${1:-build}
[ $# -eq 0 ] || shift
rust_needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")

fail() { echo "bootstrap: $1" >&2; exit 1; }

install() {
    command -v apt-get >/dev/null || fail "missing: $*; install them (these are Debian's names)"
    echo "bootstrap: installing $*"
    sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "installing $* needs root: run apt-get install $* as root, then make again"
        sudo="sudo"
    fi
    apt="$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300"
    # An update that fails for one source of several may still leave what is needed.
    $apt update || true
    $apt --no-install-recommends install "$@"
}

check_rust() {
    command -v cargo >/dev/null || fail "no cargo in PATH: Rust $rust_needed or newer is needed, see https://rustup.rs"
    found=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$rust_needed" "$found" | sort -V | head -n 1)" = "$rust_needed" ] ||
        fail "rustc is $found, $rust_needed or newer is needed: rustup update"
}

# Debian ships a Python's parts as packages named after its version; another Python has them or cannot be helped from
# here.
python_part() {     # MODULES PACKAGE-PREFIX PACKAGE-SUFFIX PYTHON...
    modules=$1 prefix=$2 suffix=$3
    shift 3
    if "$@" -c "import $modules" 2>/dev/null </dev/null; then return; fi
    case $* in
    /usr/bin/python3*)
        minor=$("$@" -c 'import sys; print("%d.%d" % sys.version_info[:2])' </dev/null)
        install "$prefix$minor$suffix"
        ;;
    *) fail "$* lacks the module(s) $modules" ;;
    esac
}

case $what in
build | tests)
    check_rust
    command -v cc >/dev/null || install gcc libc6-dev
    python_part "venv, ensurepip" python -venv "$@"
    if [ "$what" = tests ]; then python_part test.test_asyncio libpython -testsuite "$@"; fi
    ;;
fuzz)
    check_rust
    command -v c++ >/dev/null || install g++ libc6-dev
    ;;
debug)
    [ -x "$1" ] || install "$(basename "$1")"
    python_part "venv, ensurepip" python -venv "$@"
    ;;
openssl) command -v openssl >/dev/null || install openssl ;;
*) sed -n '2,8p' "$0" | cut -c3-; exit 2 ;;
esac
