#!/bin/sh
# What would be published, into dist/, and whether it works.
#
#   tools/dist.sh all      a wheel for each Python found (manylinux_2_17: glibc 2.17 of 2012 or newer), each tried in a clean
#                          environment of its own Python, where the default one runs the demo; then the source distribution
#   tools/dist.sh sdist    the source distribution alone, built and tried by pip for the default Python
set -eu
cd "$(dirname "$0")/.."
maturin=$PWD/.venv/dist/bin/maturin
check=target/dist-check
rm -rf dist "$check"
mkdir -p dist "$check" target/wheels

# A server and its client, as the installed package runs them.
program='
import asyncio, asynchrotron

async def answer(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()

async def main():
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"a line\n")
        assert await reader.read() == b"a line\n"
        writer.close()
        await writer.wait_closed()
    return type(asyncio.get_running_loop()).__module__

loop = asyncio.run(main())
assert loop == "asynchrotron.loop", loop
print("works:", asynchrotron.__file__)'

# try ENVIRONMENT WHAT RUN...: installs it there, and runs that.
try() {
    environment=$check/$1 what=$2
    shift 2
    "$@" "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$what" </dev/null
    "$@" "$environment/bin/python" -m asynchrotron -c "$program" </dev/null
}

all_wheels() {
    PATH=$PWD/.venv/dist/bin:$PATH MATURIN=$maturin LIBC=2.17 tools/wheels.sh all
    tools/pythons.sh all | while read -r minor python; do
        run=${python% *}
        [ "$run" != "$python" ] || run=
        $python -m venv "$check/$minor" </dev/null
        # shellcheck disable=SC2086  # words
        try "$minor" "$(ls dist/*-cp"$(echo "$minor" | tr -d .)"-*manylinux*.whl)" $run
    done
    "$check/$default/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/demo.txt
    "$check/$default/bin/python" examples/demo.py
}

source_distribution() {
    "$maturin" sdist --out dist
    echo "building the source distribution"
    $python -m venv "$check/sdist"
    try sdist "$(ls dist/*.tar.gz)"
}

read -r default python <<END
$(tools/pythons.sh default)
END
case ${1:-all} in
all) all_wheels; source_distribution ;;
sdist) source_distribution ;;
*) sed -n '2,6p' "$0" | cut -c3-; exit 2 ;;
esac
ls -l dist
