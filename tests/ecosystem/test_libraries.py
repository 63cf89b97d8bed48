"""Each library, really used over loopback, on stock asyncio, on our loop alone, in debug mode, and after install()."""

import harness
import pytest
from conftest import RunProgram

# Program, and the server it needs.
LIBRARIES = {
    "aiofiles_files": None,
    "aiohttp_requests": None,
    "aiohttp_streams": None,
    "aiohttp_timeouts": None,
    "aiohttp_tls": None,
    "aiohttp_websocket": None,
    "anyio_network": None,
    "anyio_tasks": None,
    "asyncpg_queries": "postgresql",
    "cancel_scope_twins": None,
    "dask_client": None,
    "dask_executor": None,
    "nest_asyncio_nested": None,
    "psycopg_queries": "postgresql",
    "redis_commands": "redis",
    "uvicorn_serve": None,
    "websockets_connections": None,
}
# What the interpreter does in Python, on our loop and transports.
STDLIB = [
    "stdlib_pipes",
    "stdlib_sendfile",
    "stdlib_streams",
    "stdlib_subprocess",
    "stdlib_threads_signals",
    "stdlib_tls",
    "stdlib_udp",
]
# Imported by programs, or run by another test file.
OTHERS = {"fastapi_application", "httpx_requests", "outcome"}

# Installing a server from Debian's packages takes its time.
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("program", LIBRARIES)
def test_library(program: str, run_program: RunProgram, request: pytest.FixtureRequest) -> None:
    service = LIBRARIES[program]
    run_program(program, env=request.getfixturevalue(service) if service else None)


@pytest.mark.parametrize("program", STDLIB)
def test_stdlib(program: str, run_program: RunProgram) -> None:
    run_program(program)


def test_every_program_is_run() -> None:
    present = {path.stem for path in harness.PROGRAMS.glob("*.py")}
    assert present == {*LIBRARIES, *STDLIB, *OTHERS}
