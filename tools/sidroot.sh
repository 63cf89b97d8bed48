#!/bin/sh
# CPython 3.14 and 3.15 of Debian unstable, with venv, headers, test suites and gcc, in a folder of their own.
#
#   tools/sidroot.sh build           make the folder, once (about a minute, 0.8 GB)
#   tools/sidroot.sh run -- CMD...   run CMD inside it, in the same working folder; shares the project, /tmp, /proc, /dev
#   tools/sidroot.sh path            print where it is: $ASYNCHROTRON_SIDROOT, else a folder in the user's cache
#
# apt resolves and downloads the packages against an empty package database and the mirror this machine already uses;
# they are only unpacked, no install script runs. Nothing of the machine is touched, its libc least of all. Mounts live
# in a namespace of each call's own, so nothing stays mounted and the folder can be deleted at any time.
set -eu

ROOT=${ASYNCHROTRON_SIDROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/asynchrotron/sid}
PROJECT=$(cd "$(dirname "$0")/.." && pwd)
VERSIONS="3.14 3.15"
PACKAGES="?essential ca-certificates gcc libc6-dev libssl-dev netbase openssl tzdata"
for version in $VERSIONS; do
    PACKAGES="$PACKAGES python$version python$version-venv python$version-dev libpython$version-testsuite"
done

fail() { echo "sidroot: $1" >&2; exit 1; }

# A mount namespace; for an ordinary user inside a user namespace, where the user is root.
isolated() {
    if [ "$(id -u)" = 0 ]; then unshare --mount --propagation private "$@"
    else unshare --user --map-root-user --mount --propagation private "$@"; fi
}

build() {
    if [ -e "$ROOT/.complete" ]; then return; fi
    command -v apt-get >/dev/null || fail "needs apt, to download Debian's packages"
    isolated true 2>/dev/null || fail "this machine does not allow mount namespaces"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep /debian/ | head -n 1)
    [ -n "$mirror" ] || fail "apt has no Debian mirror configured"

    # The lists and the downloaded packages are kept apart from the machine's and thrown away at the end.
    work=$ROOT.building
    rm -rf "$work" "$ROOT"
    mkdir -p "$work/root" "$work/state/lists/partial" "$work/cache/archives/partial"
    : > "$work/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" > "$work/sources.list"
    set -- -q -o Dir::State="$work/state" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
        -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false \
        -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false -o Acquire::Retries=3
    apt-get "$@" update
    # shellcheck disable=SC2086  # the list is words
    apt-get "$@" --yes --download-only install $PACKAGES

    # base-files first: it carries the /bin and /lib links that the others unpack through.
    for package in "$work"/cache/archives/base-files_*.deb "$work"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$work/root"
    done
    # What install scripts would have made and these programs need.
    mkdir -p "$work/root/proc" "$work/root/dev" "$work/root/tmp" "$work/root/etc/ssl/certs"
    cp "$work/root/usr/share/base-passwd/passwd.master" "$work/root/etc/passwd"
    cp "$work/root/usr/share/base-passwd/group.master" "$work/root/etc/group"
    cp "$work"/state/lists/*InRelease "$work/root/.complete"
    mv "$work/root" "$ROOT"
    rm -rf "$work"
    run ldconfig
    for version in $VERSIONS; do run "python$version" -VV; done
}

# Names, certificates and pip's settings as on the machine, so that pip reaches its index the same way.
copy_settings() {
    for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
        [ ! -e "$file" ] || cp -L "$file" "$ROOT$file"
    done
}

run() {
    [ -e "$ROOT/.complete" ] || fail "there is nothing in $ROOT yet: tools/sidroot.sh build"
    copy_settings
    mkdir -p "$ROOT$PROJECT"
    # Of the environment only what concerns the command; env takes NAME=VALUE words before it.
    for name in $(env | sed -n 's/^\(CI\|PIP_[A-Z_]*\|PYTHON[A-Z]*\|ASYNCHROTRON_[A-Z_]*\)=.*/\1/p'); do
        eval "set -- \"\$name=\$$name\" \"\$@\""
    done
    # shellcheck disable=SC2016  # expanded by the inner shell
    isolated sh -c '
        root=$1 project=$2 where=$3
        shift 3
        for folder in /proc /dev /tmp "$project"; do mount --rbind "$folder" "$root$folder"; done
        [ -d "$root$where" ] || where=/
        exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
            SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt WHERE="$where" \
            chroot "$root" /bin/sh -c '\''cd "$WHERE" && exec /usr/bin/env "$@"'\'' sh "$@"
    ' sh "$ROOT" "$PROJECT" "$PWD" "$@"
}

case ${1:-} in
build) build ;;
path) echo "$ROOT" ;;
run)
    shift
    [ "${1:-}" != "--" ] || shift
    run "$@"
    ;;
*) sed -n '2,7p' "$0" | cut -c3- ; exit 2 ;;
esac
