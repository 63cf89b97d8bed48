#!/bin/sh
# Which Pythons can be built for here, one line each: the minor version, then the words that start it.
#
#   tools/pythons.sh default    the one make uses: Debian's 3.11 if it is there, else the first of 3.11 to 3.15 found
#   tools/pythons.sh 3.13       the one of that version; also a path or a name in PATH
#   tools/pythons.sh all        one of each version, Debian's own before others
#
# Inside the root folder of sidroot.sh a Python takes several words: "3.14 tools/sidroot.sh run -- python3.14".
set -eu

MINORS="3.11 3.12 3.13 3.14 3.15"
HERE=$(cd "$(dirname "$0")" && pwd)
# CPython with the GIL, of a version we build for. sys.executable sees through launchers such as pyenv's.
PROBE='
import sys, sysconfig
minor = "%d.%d" % sys.version_info[:2]
if minor in sys.argv[1:] and sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print(minor, sys.executable)
'

probe() {   # CANDIDATE MINOR...: its line if it is one of those
    candidate=$1; shift
    command -v "$candidate" >/dev/null 2>&1 || return 0
    "$candidate" -c "$PROBE" "$@" 2>/dev/null </dev/null || true
}

of_minor() {
    for candidate in "/usr/bin/python$1" /usr/bin/python3 "python$1" python3 "$HOME"/.pyenv/versions/"$1".*/bin/python3; do
        line=$(probe "$candidate" "$1")
        if [ -n "$line" ]; then echo "$line"; return; fi
    done
    sid=$("$HERE/sidroot.sh" path)
    if [ -e "$sid/.complete" ] && [ -x "$sid/usr/bin/python$1" ]; then echo "$1 $HERE/sidroot.sh run -- python$1"; fi
}

none() { echo "no $1 here: set PYTHON to a CPython of one of $MINORS" >&2; exit 1; }

case ${1:-default} in
all) for minor in $MINORS; do of_minor "$minor"; done ;;
default)
    for minor in $MINORS; do
        line=$(of_minor "$minor")
        if [ -n "$line" ]; then echo "$line"; exit; fi
    done
    none "Python 3.11 to 3.15"
    ;;
3.1[1-5]) line=$(of_minor "$1"); [ -n "$line" ] || none "Python $1"; echo "$line" ;;
*)
    # shellcheck disable=SC2086  # a list of words
    line=$(probe "$1" $MINORS); [ -n "$line" ] || none "suitable Python '$1'"
    echo "$line"
    ;;
esac
