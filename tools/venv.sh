#!/bin/sh
# tools/venv.sh FOLDER REQUIREMENTS PYTHON...: a virtual environment made anew with exactly what the lock file says.
set -eu
folder=$1 requirements=$2
shift 2
python="$*"
run=${python% *}                # the words before the interpreter: none, or how to enter its root folder
[ "$run" != "$python" ] || run=
rm -rf "$folder"
"$@" -m venv "$folder"
# Lock files are complete, so nothing outside them may come in.
# shellcheck disable=SC2086  # words
$run "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$requirements"
