"""What can be measured: the files of micro/ and programs/, and the matrix of servers, sizes and connections."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).parents[1]


@dataclass(frozen=True)
class Micro:
    """A micro benchmark, or with `folder` "programs" a whole program, in one of its variants if it has any."""

    name: str
    title: str
    cores: int
    deterministic: bool
    unit_quick: int
    memory: bool
    folder: str = "micro"
    variant: str = ""
    quick: bool = True  # part of a --quick run
    since: tuple[int, ...] = ()  # Python version

    @property
    def suite(self) -> str:
        return "memory" if self.memory else self.folder


@dataclass(frozen=True)
class Server:
    server: str
    title: str
    connections: int
    size: int | None = None  # None is HTTP
    path: str = "/"
    # Of the load client: `udp` sends datagrams; `lines` ends each message in CR and LF, and has them nowhere else.
    mode: str = "echo"
    link: str = "tcp"  # of the load client: tcp, tls, or handshakes (a TLS connection for each message)
    limit: bool = False  # measured against the Rust echo, too
    quick: bool = False  # part of a --quick run

    @property
    def suite(self) -> str:
        return "servers"

    @property
    def name(self) -> str:
        size = f"/{size_text(self.size)}" if self.size else ""
        return f"{self.server}{size}/{self.connections}"


@dataclass(frozen=True)
class Load(Server):
    """A server as its operator sees it: what it can take, and how long requests wait at a rate that all can take."""

    @property
    def suite(self) -> str:
        return "load"

    @property
    def name(self) -> str:
        return f"load/{self.server}/{self.connections}"


@dataclass(frozen=True)
class Crawl:
    """The crawler of `make demo`: a client, unmodified, one whole process per run."""

    name: str = "load/crawler"
    title: str = "crawler of make demo"
    concurrency: int = 64
    quick: bool = True

    @property
    def suite(self) -> str:
        return "load"


Case = Micro | Server | Crawl

SIZES = (64, 1024, 16 * 1024, 100 * 1024)
TLS_SIZES = (1024, 16 * 1024, 100 * 1024)
BULK = 1024 * 1024
CONNECTIONS = (1, 10, 50, 100, 500)
CONNECTIONS_SHORT = (10, 50)
QUICK = {(64, 500), (1024, 10), (100 * 1024, 10)}


def size_text(size: int) -> str:
    if size < 1024:
        return f"{size}B"
    return f"{size // 1024}KiB" if size < 1024 * 1024 else f"{size // (1024 * 1024)}MiB"


def _echo(
    server: str,
    title: str,
    connections: tuple[int, ...],
    *,
    sizes: tuple[int, ...] = SIZES,
    limit: bool = False,
    mode: str = "echo",
    link: str = "tcp",
) -> list[Server]:
    return [
        Server(
            server,
            f"{title}, {size_text(size)}, {count} conn.",
            count,
            size,
            mode=mode,
            link=link,
            limit=limit,
            quick=(size, count) in QUICK,
        )
        for size in sizes
        for count in connections
    ]


SERVERS = (
    *_echo("protocol_echo", "Protocol echo", CONNECTIONS, limit=True),
    *_echo("sock_echo", "sock_recv/sendall echo", CONNECTIONS_SHORT),
    *_echo("protocol_echo", "Protocol echo", (10,), sizes=(BULK,), limit=True),
    *_echo("streams_echo", "streams echo", CONNECTIONS_SHORT),
    *_echo("streams_echo", "streams echo", (10,), sizes=(BULK,)),
    *_echo("streams_readline", "streams readline", CONNECTIONS_SHORT, mode="lines"),
    *_echo("streams_readexactly", "streams readexactly", CONNECTIONS_SHORT),
    *_echo("streams_readuntil", "streams readuntil", CONNECTIONS_SHORT, mode="lines"),
    *_echo("udp_echo", "UDP echo", CONNECTIONS_SHORT, sizes=(64, 1024, 16 * 1024), mode="udp"),
    *_echo("tls_protocol_echo", "TLS Protocol echo", CONNECTIONS_SHORT, sizes=TLS_SIZES, link="tls"),
    *_echo("tls_streams_echo", "TLS streams echo", CONNECTIONS_SHORT, sizes=TLS_SIZES, link="tls"),
    Server("tls_handshakes", "TLS connect, 1 KiB echo, close", 1, 1024, link="handshakes"),
    Server("tls_uvicorn", "uvicorn, plain ASGI, TLS, 50 conn.", 50, link="tls"),
    Server("tls_aiohttp", "aiohttp server, TLS, 50 conn.", 50, link="tls"),
    Server("four_writes", "four writes per 1 KiB, 10 conn.", 10, 1024, quick=True),
    Server("four_writes", "four writes per 1 KiB, 50 conn.", 50, 1024),
    Server("uvicorn_plain", "uvicorn, plain ASGI, 50 conn.", 50, quick=True),
    Server("uvicorn_fastapi", "uvicorn, FastAPI, 50 conn.", 50, path="/items/42?label=blue", quick=True),
    Server("aiohttp_plain", "aiohttp server, 50 conn.", 50, quick=True),
)

LOADS: tuple[Load | Crawl, ...] = (
    Load("uvicorn_fastapi", "FastAPI under uvicorn, 50 conn.", 50, path="/items/42?label=blue", quick=True),
    Load("aiohttp_plain", "aiohttp server, 50 conn.", 50, quick=True),
    Load("uvicorn_plain", "plain ASGI under uvicorn, 50 conn.", 50),
    Crawl(),
)

# The order of the tables; a file that is not named here comes last.
MICRO_ORDER = (
    "call_soon_chain",
    "call_soon_batch",
    "call_later_cancel",
    "call_later_cancel_turns",
    "sleep_zero",
    "future_ping_pong",
    "future_await",
    "task_await",
    "task_bulk",
    "many_sleepers",
    "task_cancel",
    "cancel_storm",
    "gather_10k",
    "task_group_10k",
    "wait_tasks",
    "as_completed",
    "wait_for",
    "timeout",
    "lock_free",
    "lock_contended",
    "semaphore_10",
    "queue_bounded",
    "queue_unbounded",
    "event_wait",
    "condition_wait",
    "barrier_wait",
    "to_thread",
    "threadsafe_flood",
    "threadsafe_round_trip",
)


def program_cases() -> list[Micro]:
    return _cases("programs")


def _cases(folder: str) -> list[Micro]:
    """Files that begin with an underscore are shared by several."""
    paths = sorted((BENCH / folder).glob("[!_]*.py"))
    return [case for path in paths for case in _variants(path)]


def micro_cases() -> list[Micro]:
    found = _cases("micro")
    order = {name: position for position, name in enumerate(MICRO_ORDER)}
    return sorted(found, key=lambda case: (order.get(case.name, len(order)), case.name))


def _variants(path: Path) -> list[Micro]:
    """Reads the file's constants without importing it: the driver stays clear of what it measures."""
    constants: dict[str, object] = {}
    functions = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.AsyncFunctionDef):
            functions.add(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value
            name = value.id if isinstance(value, ast.Name) else None  # UNIT = BURST
            constants[node.targets[0].id] = constants.get(name) if name else _literal(value)
    unit = constants.get("UNIT_QUICK", constants.get("UNIT"))
    assert isinstance(unit, int), f"{path.name} has no UNIT"
    variants = _words(constants.get("VARIANTS", ("",)))
    quick = _words(constants.get("QUICK", variants))
    return [
        Micro(
            name=f"{path.stem}/{variant}" if variant else path.stem,
            title=f"{constants['TITLE']} {variant}".rstrip(),
            cores=int(str(constants.get("CORES", 1))),
            deterministic=bool(constants.get("DETERMINISTIC", True)),
            unit_quick=unit,
            memory="memory" in functions,
            folder=path.parent.name,
            variant=variant,
            quick=variant in quick,
            since=_numbers(constants.get("SINCE", ())),
        )
        for variant in variants
    ]


def _words(value: object) -> tuple[str, ...]:
    assert isinstance(value, tuple)
    return value


def _numbers(value: object) -> tuple[int, ...]:
    assert isinstance(value, tuple)
    return value


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
