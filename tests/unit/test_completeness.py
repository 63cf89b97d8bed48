"""Nothing of asyncio is missing: every public method of AbstractEventLoop is implemented, every public name is here."""

import asyncio
import inspect

import pytest
from worlds import IMPORT_ERROR

if IMPORT_ERROR is not None:
    pytest.skip(f"asynchrotron cannot be imported: {IMPORT_ERROR}", allow_module_level=True)

import asynchrotron
from asynchrotron import _core

PUBLIC_METHODS = sorted(
    name for name, value in vars(asyncio.AbstractEventLoop).items() if not name.startswith("_") and callable(value)
)
PUBLIC_SERVER_METHODS = sorted(
    name for name, value in vars(asyncio.AbstractServer).items() if not name.startswith("__") and callable(value)
)


def implementation(kind, name):
    """The class whose version of a method counts."""
    for base in kind.__mro__:
        if name in vars(base):
            return base
    return None


def test_there_is_something_to_walk():
    assert len(PUBLIC_METHODS) > 50


@pytest.mark.parametrize("name", PUBLIC_METHODS)
def test_every_method_of_a_loop_is_implemented(name):
    """Not one is AbstractEventLoop's own, which only raises NotImplementedError."""
    base = implementation(asynchrotron.EventLoop, name)
    assert base is not asyncio.AbstractEventLoop
    assert callable(getattr(asynchrotron.EventLoop, name))


HOT = ["time", "call_soon", "call_later", "call_at", "call_soon_threadsafe", "create_future", "create_task", "stop"]


@pytest.mark.parametrize("name", HOT)
def test_what_runs_per_callback_is_native(name):
    assert implementation(asynchrotron.EventLoop, name) is _core.EventLoop


def test_the_loop_is_every_kind_of_loop():
    loop = asynchrotron.new_event_loop()
    try:
        assert type(loop) is asynchrotron.EventLoop
        for kind in (asyncio.AbstractEventLoop, asyncio.BaseEventLoop, asyncio.SelectorEventLoop, _core.EventLoop):
            assert isinstance(loop, kind)
        assert loop.slow_callback_duration == 0.1
    finally:
        loop.close()


@pytest.mark.parametrize("name", PUBLIC_METHODS)
def test_coroutine_functions_stay_coroutine_functions(name):
    """What has to be awaited on stock's loop gives an awaitable here: shown by calling it wrongly, nothing more."""
    stock = getattr(asyncio.SelectorEventLoop, name)
    mine = getattr(asynchrotron.EventLoop, name)
    if inspect.iscoroutinefunction(stock):
        assert inspect.iscoroutinefunction(mine) or not inspect.isfunction(mine)
    else:
        assert not inspect.iscoroutinefunction(mine)


@pytest.mark.parametrize("name", PUBLIC_METHODS)
def test_parameters_have_asyncios_names(name):
    """Python methods of ours take at least what stock's take; native ones are tried in tests/parity."""
    stock = inspect.signature(getattr(asyncio.SelectorEventLoop, name))
    mine = getattr(asynchrotron.EventLoop, name)
    if not inspect.isfunction(mine):
        return
    taken = inspect.signature(mine).parameters
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        return
    assert [n for n in stock.parameters if n not in taken] == []


@pytest.mark.parametrize("name", sorted(asyncio.__all__))
def test_every_public_name_of_asyncio(name):
    assert name in asynchrotron.__all__
    assert hasattr(asynchrotron, name)


@pytest.mark.parametrize(
    "name",
    ["Future", "Task", "Handle", "TimerHandle", "sleep", "current_task", "all_tasks", "create_task", "ensure_future"],
)
def test_native_names_are_native(name):
    assert getattr(asynchrotron, name) is not getattr(asyncio, name)
    assert getattr(asynchrotron, name) is getattr(_core, name)


def test_star_import():
    namespace = {}
    exec("from asynchrotron import *", namespace)
    assert namespace["Task"] is asynchrotron.Task
    assert namespace["run"] is asynchrotron.run
    assert set(asyncio.__all__) <= set(namespace)


def test_submodules_are_found_through_the_package():
    """`import asynchrotron as asyncio` and then asyncio.tasks, asyncio.events, asyncio.subprocess, ..."""
    for name in ("tasks", "futures", "events", "base_events", "subprocess", "streams", "locks", "queues", "exceptions"):
        assert getattr(asynchrotron, name) is getattr(asyncio, name)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = asynchrotron.no_such_name


def test_the_ways_in():
    for name in ("run", "Runner", "new_event_loop", "install", "uninstall", "EventLoop", "__version__"):
        assert hasattr(asynchrotron, name)


@pytest.mark.parametrize("kind", ["Future", "Task", "Handle", "TimerHandle"])
def test_public_members_of_native_classes(kind):
    """Everything public on the stdlib's class, and what object protocols it has, is on ours."""
    stock, mine = getattr(asyncio, kind), getattr(asynchrotron, kind)
    special = {"__await__", "__iter__", "__repr__", "__class_getitem__", "__hash__", "__eq__", "__lt__", "__del__"}
    wanted = {n for n in dir(stock) if not n.startswith("_")} | {n for n in special if hasattr(stock, n)} - {"__del__"}
    assert [n for n in sorted(wanted) if not hasattr(mine, n)] == []


@pytest.mark.parametrize("name", PUBLIC_SERVER_METHODS)
def test_servers(name):
    async def main():
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        try:
            assert implementation(type(server), name) is not asyncio.AbstractServer
        finally:
            server.close()

    loop = asynchrotron.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


def test_transports_implement_asyncios_methods():
    import socket

    loop = asynchrotron.new_event_loop()
    left, right = socket.socketpair()

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, _core.StreamTransport)
        missing = []
        for base in asyncio.Transport.__mro__[:-1]:
            for name, value in vars(base).items():
                if not name.startswith("_") and callable(value):
                    found = implementation(type(transport), name)
                    if found in (
                        asyncio.BaseTransport,
                        asyncio.ReadTransport,
                        asyncio.WriteTransport,
                        asyncio.Transport,
                    ):
                        missing.append(name)
        transport.abort()
        await asyncio.sleep(0)
        return missing

    with right:
        missing = loop.run_until_complete(main())
    loop.close()
    assert missing == []


def test_methods_that_are_there_do_their_work():
    """One real call of each method that needs no network: a name that only exists is not enough."""
    loop = asynchrotron.new_event_loop()
    seen = []
    loop.call_soon(seen.append, "call_soon")
    loop.call_later(0, seen.append, "call_later")
    loop.call_at(loop.time(), seen.append, "call_at")
    loop.call_soon_threadsafe(seen.append, "call_soon_threadsafe")
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert sorted(seen) == ["call_at", "call_later", "call_soon", "call_soon_threadsafe"]
    assert loop.run_until_complete(asyncio.sleep(0, "run_until_complete")) == "run_until_complete"
    assert loop.run_until_complete(loop.run_in_executor(None, int, "5")) == 5
    assert loop.run_until_complete(loop.shutdown_asyncgens()) is None
    assert loop.run_until_complete(loop.shutdown_default_executor()) is None
    assert (loop.is_running(), loop.is_closed(), loop.get_debug()) == (False, False, False)
    loop.close()
    assert loop.is_closed()
