"""Runs a scenario once per seed, and looks at what it left behind."""

import asyncio as stock
import contextlib
import errno
import functools
import gc
import os
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import asynchrotron
from asynchrotron import _core

SEEDS = int(os.environ.get("ASYNCHROTRON_FAULT_SEEDS", "250"))
ONLY = os.environ.get("ASYNCHROTRON_FAULT_SEED")
SECONDS_MAX = 20  # of one seed; the slowest take a tenth of a second

# What crates/reactor/src/faults.rs may answer, and what a peer sees of a connection that ended so.
INJECTED = {
    errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE,
    errno.ENOSPC, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENOTCONN,
}  # fmt: skip

# Calls in a thousand. `gentle` faults must never be seen by anybody; `harsh` ones end connections.
GENTLE = {"short": 300, "interrupted": 50, "spurious": 50}
HARSH = {**GENTLE, "broken": 10, "resources": 10}


def inject(seed: int, rates: dict[str, int] | None = None) -> list[int]:
    """Start, or with the seed 0 stop; how many of each kind there have been since the last call."""
    counts: list[int] = _core._inject_faults(seed, **(rates or {}))  # type: ignore[attr-defined]
    return counts


def injected(error: BaseException | None) -> bool:
    """Whether this is an error that a fault may be answered with."""
    if isinstance(error, BaseExceptionGroup):
        return all(injected(one) for one in error.exceptions)
    if isinstance(error, ConnectionError) and error.errno is None:
        return True  # asyncio's own, of drain(), sendfile() and pipes, after a connection was lost
    return isinstance(error, OSError) and error.errno in INJECTED


def open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def seeds() -> range | list[int]:
    return [int(ONLY)] if ONLY else range(1, SEEDS + 1)


def faulted(rates: dict[str, int]) -> Callable[[Callable[..., Awaitable[Any]]], Callable[[], None]]:
    """Make a test of a scenario: `await body(random)` for each seed, with so many faults in a thousand calls."""

    def decorate(body: Callable[..., Awaitable[Any]]) -> Callable[[], None]:
        @functools.wraps(body)
        def test() -> None:
            totals = [0] * 5
            for seed in seeds():
                try:
                    counts = run_seed(body, seed, rates)
                except BaseException:
                    print(f"\nASYNCHROTRON_FAULT_SEED={seed}", file=sys.stderr)
                    raise
                totals = [a + b for a, b in zip(totals, counts, strict=True)]
            if not ONLY:
                kinds = ["short", "interrupted", "spurious", "broken", "resources"]
                missed = [kind for kind, count in zip(kinds, totals, strict=True) if rates.get(kind) and not count]
                assert not missed, f"never met: {missed}"

        del test.__wrapped__  # type: ignore[attr-defined]  # pytest would ask for the body's parameters
        return test

    return decorate


def run_seed(body: Callable[..., Awaitable[Any]], seed: int, rates: dict[str, int]) -> list[int]:
    gc.collect()
    before = open_descriptors()
    unexpected: list[dict[str, Any]] = []
    loop = asynchrotron.new_event_loop()
    loop.set_exception_handler(lambda _, context: unexpected.append(context))

    ended = []

    async def bounded() -> None:
        try:
            async with asynchrotron.timeout(SECONDS_MAX):
                await body(random.Random(seed))
        finally:
            ended.append(True)

    loop.run_until_complete(asynchrotron.sleep(0))  # what a loop has of its own is there
    try:
        inject(seed, rates)
        try:
            loop.run_until_complete(bounded())
        except Exception as error:
            if not injected(error) or not ended:
                raise  # not the scenario's, but the loop's own
        finally:
            counts = inject(0)
        # What was aborted ends within a few turns. Nothing may need longer, or a task of its own.
        for _ in range(5):
            loop.run_until_complete(asynchrotron.sleep(0))
        left = stock.all_tasks(loop)
        assert not left, f"tasks left behind: {left}"
    finally:
        inject(0)
        if not loop.is_closed():
            for task in stock.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asynchrotron.sleep(0))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
    del loop
    for _ in range(2):
        while unexpected:  # they hold the transports they are about
            assert injected(unexpected[-1].get("exception")), unexpected[-1]
            unexpected.pop()
        gc.collect()  # may report a future's exception that nobody has asked for
    assert not unexpected
    after = open_descriptors()
    assert after == before, (
        f"descriptors: {sorted(after.items() - before.items())} more, {sorted(before.items() - after.items())} fewer"
    )
    return counts
