"""PostgreSQL and Redis from Debian's packages, started for one test session on free ports and stopped by pid.

The packages are installed with apt-get if they are missing (which needs root). Nothing outside a temporary
directory is touched, and a server of the machine's own, if it runs, is left alone.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import trustme

START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 15


class ServiceError(Exception):
    """A server could not be installed or started."""


def install(package: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ServiceError(f"these tests need Debian's package {package!r}: apt-get install {package}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    if subprocess.run(command, env=quiet, capture_output=True).returncode == 0:
        return
    # A fresh machine has no package lists yet.
    subprocess.run(["apt-get", "update", "-q"], env=quiet, capture_output=True, check=False)
    attempt = subprocess.run(command, env=quiet, capture_output=True, text=True)
    if attempt.returncode:
        raise ServiceError(f"{' '.join(command)} failed:\n{attempt.stderr}")


def find_postgresql() -> Path:
    """The directory with initdb and postgres: Debian keeps them out of PATH, one per major version."""
    for attempt in ("look", "install"):
        versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
        if versions:
            return max(versions, key=lambda path: int(path.parent.name))
        if attempt == "look":
            install("postgresql")
    raise ServiceError("postgresql is installed, but /usr/lib/postgresql/*/bin/postgres is not there")


def find_redis() -> str:
    if shutil.which("redis-server") is None:
        install("redis-server")
    path = shutil.which("redis-server")
    if path is None:
        raise ServiceError("redis-server is installed, but not in PATH")
    return path


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; whom it runs as instead. None: as we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise ServiceError("no unprivileged user to run PostgreSQL as")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(
    command: list[str], log: Path, is_ready: Callable[[], bool], stop_signal: int, user: str | None = None
) -> Iterator[None]:
    """A server process from the moment it is ready until it has been stopped by its pid."""
    identity = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            **identity,  # type: ignore[call-overload]
        )
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServiceError(f"{command[0]} did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(stop_signal)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """A fresh cluster with TLS and passwords; yields the environment variables that lead to it."""
    binaries = find_postgresql()
    user = unprivileged_user()
    password = "swordfish"
    # Not below pytest's own directory: that one only root may enter. And short: a socket's path has 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="eco-pg-"))
    try:
        data = directory / "data"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(str(directory / "server.key"))
        certificate.cert_chain_pems[0].write_to_path(str(directory / "server.pem"))
        (directory / "password").write_text(password)
        (directory / "server.key").chmod(0o600)
        if user is not None:
            for path in (directory, *directory.iterdir()):
                shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
            directory.chmod(0o755)

        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "tester", "-A", "scram-sha-256", "-E", "UTF8"]
        initdb += ["--locale=C.UTF-8", f"--pwfile={directory / 'password'}", "--no-sync"]
        identity = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        made = subprocess.run(initdb, capture_output=True, text=True, cwd="/", **identity)  # type: ignore[call-overload]
        if made.returncode:
            raise ServiceError(f"initdb failed:\n{made.stdout}{made.stderr}")

        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(directory),
            "max_connections": "60",
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": str(directory / "server.pem"),
            "ssl_key_file": str(directory / "server.key"),
        }
        command = [str(binaries / "postgres"), "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]

        def is_ready() -> bool:
            probe = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            return subprocess.run(probe, check=False).returncode == 0

        # SIGINT is PostgreSQL's "fast" shutdown: it does not wait for clients.
        with running(command, directory / "log", is_ready, signal.SIGINT, user):
            yield {
                "PGHOST": "localhost",
                "PGPORT": str(port),
                "PGUSER": "tester",
                "PGPASSWORD": password,
                "PGDATABASE": "postgres",
                "PGSSLROOTCERT": str(directory / "ca.pem"),
                "PG_SOCKET_DIRECTORY": str(directory),
            }
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def redis() -> Iterator[dict[str, str]]:
    """An empty Redis that keeps nothing; yields the environment variables that lead to it."""
    binary = find_redis()
    directory = Path(tempfile.mkdtemp(prefix="eco-redis-"))
    try:
        port = free_port()
        path = directory / "redis.sock"
        command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--unixsocket", str(path)]
        command += ["--dir", str(directory), "--save", "", "--appendonly", "no", "--enable-debug-command", "local"]
        with running(command, directory / "log", lambda: answers(port) and path.exists(), signal.SIGTERM):
            yield {"REDIS_URL": f"redis://127.0.0.1:{port}/0", "REDIS_SOCKET": str(path)}
    finally:
        shutil.rmtree(directory, ignore_errors=True)
