"""The contenders. How the loop is selected is the only thing that may differ between them."""

import asyncio
from dataclasses import dataclass
from importlib import import_module
from typing import Any

RUST_LIMIT = "rust-limit"


@dataclass(frozen=True)
class Contender:
    name: str
    distribution: str | None = None
    factory: str | None = None  # "module:callable", given to asyncio.Runner(loop_factory=...); None is the default loop
    launcher: tuple[str, ...] = ()  # interpreter arguments before the program
    only: str = "*"  # benchmarks it takes part in
    stock_loop: bool = False  # it is about something else than the loop


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("asyncio"),
        Contender("uvloop", "uvloop", "uvloop:new_event_loop"),
        # Transports by aiofastnet, on either loop.
        Contender("asyncio+aiofastnet", "aiofastnet", "harness.fastnet:asyncio_loop", only="tls_*", stock_loop=True),
        Contender("uvloop+aiofastnet", "aiofastnet", "harness.fastnet:uvloop_loop", only="tls_*"),
        Contender("rloop", "rloop", "rloop:new_event_loop"),
        Contender("rsloop", "rsloop", "rsloop:new_event_loop"),
        Contender("zuvloop", "zuvloop", "zuvloop:new_event_loop"),
        # The loop alone: tasks it makes are native, the names in the asyncio module stay the stdlib's.
        Contender("asynchrotron-loop", "asynchrotron", "asynchrotron:new_event_loop"),
        # What `python -m asynchrotron app.py` gives an unmodified program.
        Contender("asynchrotron", "asynchrotron", launcher=("-m", "asynchrotron")),
    )
}
OURS = ("asynchrotron", "asynchrotron-loop")


def runner_for(factory: str | None) -> asyncio.Runner:
    """Called inside the measured process."""
    if factory is None:
        return asyncio.Runner()
    module, _, name = factory.partition(":")
    return asyncio.Runner(loop_factory=getattr(import_module(module), name))


async def loop_types() -> dict[str, str]:
    """What is really running, so that a contender that silently fell back to stock asyncio is seen."""
    loop = asyncio.get_running_loop()

    async def nothing() -> None:
        pass

    task = asyncio.create_task(nothing())
    await task
    return {"loop": _qualified(loop), "task": _qualified(task), "future": _qualified(loop.create_future())}


def _qualified(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
