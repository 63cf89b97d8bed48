"""Brings a project's tests and an environment to run them in; both are kept and made anew only when a pin changes.

Tests come from the source distribution, fetched by the registry's own client. Some projects leave their tests out of
it; for those Debian's source package has the upstream archive (projects/*.toml say so). The hash of the archive is
checked whatever it came from. The project itself and what its tests need are installed from wheels, by lock file.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from project import EMPTY_CONFIG, ROOT, Project

DOWNLOADS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asynchrotron" / "suites"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
WHEELS = ROOT / "target" / "wheels" / VERSION
FETCH_SECONDS_MAX = 300
TRIES = 3


class PrepareError(Exception):
    """A source or an environment could not be had."""


def _run(command: Sequence[str | Path], cwd: Path | None = None) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=FETCH_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            problem = f"took more than {FETCH_SECONDS_MAX} seconds"
        else:
            if ended.returncode == 0:
                return
            problem = ended.stdout[-3000:] + ended.stderr[-3000:]
        if attempt == TRIES:
            raise PrepareError(f"{' '.join(map(str, command))}\n{problem}")


# ---- sources ---------------------------------------------------------------------------------------------------------


def _from_pypi(project: Project, folder: Path) -> None:
    # Without build isolation: pip asks the build back-end for the metadata, and requirements/suites.txt has those.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    pip += ["--no-build-isolation", "--no-binary", project.name, "--dest", str(folder)]
    _run([*pip, f"{project.name}=={project.version}"])


def _from_debian(project: Project, folder: Path) -> None:
    """The upstream archive of a source package of Debian's stable release, whatever this machine runs."""
    apt = folder / "apt"
    (apt / "lists" / "partial").mkdir(parents=True)
    (apt / "cache" / "archives" / "partial").mkdir(parents=True)
    package, suite = project.debian.split(" from ")
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "sources.list").write_text(f"deb-src [signed-by={key}] {_debian_mirror()} {suite} main\n")
    options = ["-q", "-o", f"Dir::Etc::SourceList={apt / 'sources.list'}", "-o", "Dir::Etc::SourceParts=/dev/null"]
    options += ["-o", f"Dir::State::Lists={apt / 'lists'}", "-o", f"Dir::Cache={apt / 'cache'}"]
    options += ["-o", "APT::Sandbox::User=root"]
    _run(["apt-get", *options, "update"])
    _run(["apt-get", *options, "source", "--download-only", "--tar-only", package], cwd=folder)
    shutil.rmtree(apt)


def _debian_mirror() -> str:
    """The mirror this machine uses already."""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("debian*"))]:
        for line in path.read_text().splitlines() if path.exists() else []:
            words = line.split()
            for word in words[1:] if words and words[0] in ("deb", "URIs:") else []:
                if word.startswith("http"):
                    return word.rstrip("/")
    raise PrepareError("no Debian mirror in /etc/apt")


def _matches(path: Path, project: Project) -> bool:
    return _sha256(path) == project.sha256


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(project: Project) -> Path:
    """The archive, from the user's cache if it is there."""
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    cached = DOWNLOADS / project.sha256
    if cached.exists() and _matches(cached, project):
        return cached
    folder = DOWNLOADS / f"{project.key}.{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        (_from_debian if project.origin == "debian" else _from_pypi)(project, folder)
        archives = [path for path in folder.iterdir() if path.is_file()]
        good = [path for path in archives if _matches(path, project)]
        if not good:
            found = ", ".join(
                f"{path.name} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in archives
            )
            raise PrepareError(f"{project.name} {project.version}: not the archive that is pinned, but {found}")
        good[0].replace(cached)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return cached


def unpack(project: Project) -> None:
    """Only the tests and what they read: the package beside them would be imported in place of the installed one."""
    mark = project.tree / ".unpacked"
    content = "\n".join([project.sha256, EMPTY_CONFIG, *project.unpack])
    if mark.exists() and mark.read_text() == content:
        return
    archive = fetch(project)
    shutil.rmtree(project.tree, ignore_errors=True)
    project.tree.mkdir(parents=True)
    wanted = [PurePosixPath(path) for path in project.unpack]
    with tarfile.open(archive) as tar:
        for member in tar:
            inner = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            content_of = tar.extractfile(member) if member.isfile() else None
            # Files by hand: Debian's 3.11 has no extraction filter that would keep them inside the folder.
            if content_of is None or ".." in inner.parts or not any(inner.is_relative_to(path) for path in wanted):
                continue
            target = project.tree / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content_of.read())
            target.chmod(0o755 if member.mode & 0o100 else 0o644)
    missing = [path for path in project.unpack if not (project.tree / path).exists()]
    if missing:
        raise PrepareError(f"{project.name} {project.version}: the archive has no {', '.join(missing)}")
    # Else pytest would look for a configuration further up, and find ours.
    (project.tree / EMPTY_CONFIG).write_text("[pytest]\n")
    mark.write_text(content)


# ---- environments ----------------------------------------------------------------------------------------------------


def interpreter(project: Project) -> Path:
    return ROOT / ".venv" / f"{VERSION}-suite-{project.key}" / "bin" / "python"


def environment(project: Project) -> None:
    """A virtual environment with what the lock file says, and the wheel of this tree."""
    python = interpreter(project)
    folder = python.parents[1]
    lock_mark, wheel_mark = folder / ".lock", folder / ".wheel"
    uv = str(Path(sys.executable).with_name("uv"))
    pip = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
    if not lock_mark.exists() or lock_mark.read_text() != project.lock.read_text():
        _run([uv, "venv", "--quiet", "--clear", "--python", os.path.realpath(sys.executable), str(folder)])
        _run([*pip, "--requirement", str(project.lock)])
        lock_mark.write_text(project.lock.read_text())
    wheels = list(WHEELS.glob("*.whl"))
    if len(wheels) != 1:
        raise PrepareError(f"not one wheel in {WHEELS}, but {len(wheels)}: make build")
    digest = _sha256(wheels[0])
    if not wheel_mark.exists() or wheel_mark.read_text() != digest:
        _run([*pip, "--reinstall", str(wheels[0])])
        wheel_mark.write_text(digest)


def prepare(project: Project) -> None:
    """Sources and environment, made or brought up to date."""
    unpack(project)
    environment(project)
