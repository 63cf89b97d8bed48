"""run_in_executor, default executors and their shutdown, to_thread, name look-ups off the loop."""

import asyncio
import concurrent.futures
import contextvars
import socket
import threading
import time
import warnings

import pytest
from worlds import araised, in_thread, normal, parity, raised, since

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


@parity
def test_results_exceptions_and_threads(w):
    async def main():
        loop = w.aio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine") as mine:
            trace = [
                await loop.run_in_executor(None, lambda: threading.current_thread().name.split("_")[0]),
                await loop.run_in_executor(mine, lambda: threading.current_thread().name),
                await loop.run_in_executor(None, lambda *a: a, 1, 2),
                await araised(loop.run_in_executor(None, int, "x")),
                asyncio.isfuture(loop.run_in_executor(mine, int)),
            ]
        return trace

    return w.run(main)


@parity
def test_cancelling_what_waits_for_a_thread(w):
    async def main():
        loop = w.aio.get_running_loop()
        release, ran = threading.Event(), []
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            busy = loop.run_in_executor(pool, release.wait, 10)
            queued = loop.run_in_executor(pool, ran.append, "queued ran")
            await w.aio.sleep(0.01)
            trace = [queued.cancel(), busy.cancel()]
            await w.aio.sleep(0)
            await w.aio.sleep(0)
            release.set()
            trace.append(await araised(busy))
            trace.append(await araised(queued))
        return trace, ran

    return w.run(main)


@parity
def test_to_thread(w):
    async def main():
        VARIABLE.set("of main")

        def work(*args, **kwargs):
            before = VARIABLE.get()
            VARIABLE.set("of the thread")
            return before, args, kwargs, threading.current_thread() is threading.main_thread()

        trace = [await w.aio.to_thread(work, 1, key=2), VARIABLE.get(), await araised(w.aio.to_thread(int, "x"))]
        trace.append(await w.aio.gather(*(w.aio.to_thread(str, n) for n in range(20))))
        return trace

    return w.run(main)


@parity
def test_many_threads_answer_at_once(w):
    async def main():
        loop = w.aio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            results = await w.aio.gather(*(loop.run_in_executor(pool, pow, n, 2) for n in range(500)))
        return results == [n * n for n in range(500)]

    return w.run(main)


@parity
def test_the_default_executor(w):
    with w.loop() as loop:
        trace = [raised(loop.set_default_executor, 1), raised(loop.set_default_executor, None)]
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="chosen") as pool:
            loop.set_default_executor(pool)
            name = loop.run_until_complete(loop.run_in_executor(None, lambda: threading.current_thread().name))
            trace.append(name)
            trace.append(loop._default_executor is pool)
        loop._default_executor = None
        assert trace[0] == ("TypeError", "executor must be ThreadPoolExecutor instance")
        return trace


@parity
def test_shutdown_of_the_default_executor(w):
    with w.loop() as loop:

        async def main():
            finished = []

            def work():
                time.sleep(0.02)
                finished.append(True)

            pending = loop.run_in_executor(None, work)
            await loop.shutdown_default_executor()
            trace = [list(finished), raised(loop.run_in_executor, None, int)]
            await pending
            await loop.shutdown_default_executor()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                trace.append(await loop.run_in_executor(pool, int, "5"))
            return trace

        trace = loop.run_until_complete(main())
        assert trace[1] == ("RuntimeError", "Executor shutdown has been called")
        return trace


@parity
@since(3, 13)
def test_shutdown_with_a_timeout(w):
    release = threading.Event()
    loop = w.new_event_loop()

    async def main():
        pending = loop.run_in_executor(None, release.wait, 10)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await loop.shutdown_default_executor(timeout=0.01)
        release.set()
        await pending
        return [(c.category.__name__, normal(c.message)) for c in caught]

    try:
        texts = loop.run_until_complete(main())
    finally:
        loop.close()
    assert texts[0][0] == "RuntimeWarning"
    return texts


@parity
def test_shutdown_without_any_use(w):
    with w.loop() as loop:
        return loop.run_until_complete(loop.shutdown_default_executor()), loop._default_executor


@parity
def test_closing_the_loop_does_not_wait_for_threads(w):
    release, loop = threading.Event(), w.new_event_loop()
    fut = loop.run_in_executor(None, release.wait, 10)
    started = time.monotonic()
    loop.close()
    quick = time.monotonic() - started < 5
    release.set()
    return quick, fut.done()


@parity
def test_a_thread_that_answers_after_the_loop_closed(w):
    """The late answer is dropped; the worker thread must not die of it."""
    release, loop = threading.Event(), w.new_event_loop()
    pool = concurrent.futures.ThreadPoolExecutor(1)
    fut = loop.run_in_executor(pool, release.wait, 10)
    loop.close()
    release.set()
    pool.shutdown(wait=True)
    return fut.done(), pool._work_queue.qsize()


@parity
def test_run_in_executor_from_another_thread(w):
    with w.loop() as loop:
        return in_thread(lambda: asyncio.isfuture(loop.run_in_executor(None, int)))


@parity
@pytest.mark.parametrize(
    "args",
    [
        ("127.0.0.1", 80),
        ("127.0.0.1", "80"),
        ("::1", 80),
        ("127.0.0.1", None),
        (None, 80),
        ("127.0.0.1", b"80"),
        (b"127.0.0.1", 80),
        ("localhost", 80),
        ("127.0.0.1", "http"),
        ("no.such.host.invalid", 80),
        ("127.0.0.1", "nosuchservice"),
        ("", 80),
        ("127.1", 80),
        ("0x7f.1", 80),
        ("::ffff:127.0.0.1", 80),
        ("fe80::1%lo", 80),
        ("127.0.0.1", 65535),
    ],
    ids=str,
)
def test_getaddrinfo(w, args):
    async def main():
        loop = w.aio.get_running_loop()
        try:
            return sorted(set(await loop.getaddrinfo(*args, type=socket.SOCK_STREAM)), key=str)
        except Exception as exc:
            return type(exc).__name__, str(exc)

    answer = w.run(main)
    try:
        direct = sorted(set(socket.getaddrinfo(*args, type=socket.SOCK_STREAM)), key=str)
    except Exception as exc:
        direct = type(exc).__name__, str(exc)
    assert answer == direct
    return answer


@parity
@pytest.mark.parametrize("family", [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize("kind", [0, socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("flags", [0, socket.AI_PASSIVE, socket.AI_NUMERICHOST, socket.AI_CANONNAME])
def test_getaddrinfo_combinations(w, host, family, kind, flags):
    async def main():
        loop = w.aio.get_running_loop()
        try:
            return sorted(await loop.getaddrinfo(host, 80, family=family, type=kind, flags=flags), key=str)
        except socket.gaierror as exc:
            return exc.args

    answer = w.run(main)
    try:
        direct = sorted(socket.getaddrinfo(host, 80, family=family, type=kind, flags=flags), key=str)
    except socket.gaierror as exc:
        direct = exc.args
    assert answer == direct
    return answer


@parity
def test_getnameinfo(w):
    async def main():
        loop = w.aio.get_running_loop()
        return [
            await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
            await loop.getnameinfo(("::1", 80, 0, 0), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
            await loop.getnameinfo(("127.0.0.1", 80)),
            await araised(loop.getnameinfo(("not an address", 80))),
            await araised(loop.getnameinfo("text")),
        ]

    return w.run(main)


@parity
def test_getaddrinfo_uses_the_sockets_module_of_the_program(w, monkeypatch):
    """Libraries patch socket.getaddrinfo (tests, proxies, dns caches); a name that needs a look-up goes through it."""
    seen = []

    def fake(host, port, *args, **kwargs):
        seen.append((host, port))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", fake)

    async def main():
        return await w.aio.get_running_loop().getaddrinfo("patched.invalid", 80, type=socket.SOCK_STREAM)

    return w.run(main), seen
