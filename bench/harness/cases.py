"""What can be measured: the micro benchmarks found in bench/micro, and the matrix of servers, sizes and connections."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).parents[1]


@dataclass(frozen=True)
class Micro:
    name: str
    title: str
    cores: int
    deterministic: bool
    unit_quick: int
    memory: bool

    @property
    def suite(self) -> str:
        return "memory" if self.memory else "micro"


@dataclass(frozen=True)
class Server:
    server: str
    title: str
    connections: int
    size: int | None = None  # None is HTTP
    path: str = "/"
    limit: bool = False  # measured against the Rust echo, too
    quick: bool = False  # part of a --quick run

    @property
    def suite(self) -> str:
        return "servers"

    @property
    def name(self) -> str:
        size = f"/{size_text(self.size)}" if self.size else ""
        return f"{self.server}{size}/{self.connections}"


Case = Micro | Server

SIZES = (64, 1024, 16 * 1024, 100 * 1024)
CONNECTIONS = (1, 10, 50, 100, 500)
CONNECTIONS_SHORT = (10, 50)
QUICK = {(64, 500), (1024, 10), (100 * 1024, 10)}


def size_text(size: int) -> str:
    return f"{size}B" if size < 1024 else f"{size // 1024}KiB"


def _echo(server: str, title: str, connections: tuple[int, ...], limit: bool = False) -> list[Server]:
    return [
        Server(
            server,
            f"{title}, {size_text(size)}, {count} conn.",
            count,
            size,
            limit=limit,
            quick=(size, count) in QUICK,
        )
        for size in SIZES
        for count in connections
    ]


SERVERS = (
    *_echo("protocol_echo", "Protocol echo", CONNECTIONS, limit=True),
    *_echo("sock_echo", "sock_recv/sendall echo", CONNECTIONS_SHORT),
    *_echo("streams_echo", "streams echo", CONNECTIONS_SHORT),
    Server("four_writes", "four writes per 1 KiB, 10 conn.", 10, 1024, quick=True),
    Server("four_writes", "four writes per 1 KiB, 50 conn.", 50, 1024),
    Server("uvicorn_plain", "uvicorn, plain ASGI, 50 conn.", 50, quick=True),
    Server("uvicorn_fastapi", "uvicorn, FastAPI, 50 conn.", 50, path="/items/42?label=blue", quick=True),
    Server("aiohttp_plain", "aiohttp server, 50 conn.", 50, quick=True),
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
    "threadsafe_flood",
    "threadsafe_round_trip",
)


def micro_cases() -> list[Micro]:
    found = [_describe(path) for path in sorted((BENCH / "micro").glob("*.py"))]
    order = {name: position for position, name in enumerate(MICRO_ORDER)}
    return sorted(found, key=lambda case: (order.get(case.name, len(order)), case.name))


def _describe(path: Path) -> Micro:
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
    return Micro(
        name=path.stem,
        title=str(constants["TITLE"]),
        cores=int(str(constants.get("CORES", 1))),
        deterministic=bool(constants.get("DETERMINISTIC", True)),
        unit_quick=unit,
        memory="memory" in functions,
    )


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
