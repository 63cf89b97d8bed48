"""Streams: writers, flow control and protocols without a connection."""

import asyncio
import copy
import gc
import warnings
import weakref

import pytest
from stream_parts import Pipe, noted, reader_of
from worlds import Generations, araised, asyncio_log, drain, error, normal, outcome, parity, raised

# --- writers and protocols ------------------------------------------------------------------------------------------


WRITERS = []


def kept(writer):
    """From 3.12 on a writer that goes away before it is closed warns: it lives until the test is over."""
    WRITERS.append(writer)
    return writer


@pytest.fixture(autouse=True)
def close_kept_writers():
    yield
    for writer in WRITERS:
        writer.transport.closing = True
    WRITERS.clear()


def writer_of(w, loop, log, *, reader=None):
    reader = reader or reader_of(w, loop)
    protocol = w.aio.StreamReaderProtocol(reader, loop=loop)
    transport = Pipe(log)
    protocol.connection_made(transport)
    return reader, protocol, transport, kept(w.aio.StreamWriter(transport, protocol, reader, loop))


@parity
def test_a_writer_hands_on(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        reader, protocol, transport, writer = writer_of(w, loop, log)
        trace = [
            writer.write(b"a"),
            writer.write(data=b"b"),
            writer.writelines([b"c", b"d"]),
            writer.write_eof(),
            writer.can_write_eof(),
            writer.is_closing(),
            writer.get_extra_info("x"),
            writer.get_extra_info("x", 5),
            writer.get_extra_info(name="x", default=6),
            writer.transport is transport,
            (writer._protocol is protocol, writer._reader is reader, writer._loop is loop),
            (writer._complete_fut.done(), writer._complete_fut.result()),
            repr(writer),
            repr(kept(w.aio.StreamWriter(transport, protocol, None, loop))),
            writer.close(),
            writer.is_closing(),
        ]
        return trace, log

    return w.run(main)


@parity
def test_drain(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        _, protocol, transport, writer = writer_of(w, loop, log)
        turns = Generations(loop)
        await noted(turns, "nothing to wait for", writer.drain())
        protocol.pause_writing()
        tasks = [loop.create_task(noted(turns, name, writer.drain())) for name in "abc"]
        tasks.append(loop.create_task(noted(turns, "helper", protocol._drain_helper())))
        await asyncio.sleep(0)
        turns(len(protocol._drain_waiters))
        tasks[1].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        turns(len(protocol._drain_waiters))
        protocol.resume_writing()
        await asyncio.wait(tasks)
        turns(len(protocol._drain_waiters))
        # Who writes and drains on a closing connection lets one turn pass.
        transport.closing = True
        await noted(turns, "closing", writer.drain())
        task = loop.create_task(noted(turns, "lost meanwhile", writer.drain()))
        await asyncio.sleep(0)
        protocol.connection_lost(None)
        await asyncio.wait([task])
        turns(error(task.exception()))
        turns(await araised(writer.drain()))
        return turns.log

    return w.run(main)


@pytest.mark.parametrize("exc", [None, OSError("lost"), ValueError], ids=["clean", "error", "class"])
@parity
def test_connection_lost(w, exc):
    exc = copy.copy(exc)  # one that was raised keeps its traceback, and so the loop

    async def main():
        loop, log = w.aio.get_running_loop(), []
        reader, protocol, _, writer = writer_of(w, loop, log)
        turns = Generations(loop)
        protocol.pause_writing()
        tasks = [
            loop.create_task(noted(turns, name, coro))
            for name, coro in [
                ("read", reader.read(5)),
                ("drain", writer.drain()),
                ("closed", writer.wait_closed()),
                ("closed, too", writer.wait_closed()),
            ]
        ]
        await asyncio.sleep(0)
        protocol.connection_lost(exc)
        turns((protocol._transport, protocol._stream_reader, protocol._task, protocol._connection_lost))
        await asyncio.wait(tasks)
        for coro in (writer.wait_closed(), writer.drain(), reader.read(5)):
            try:
                turns(await coro)
            except Exception as failure:
                turns(error(failure))
        turns([error(task.exception()) for task in tasks])
        turns((protocol.data_received(b"late"), protocol.eof_received()))
        return turns.log, log, outcome(protocol.connection_lost, None)

    return w.run(main)


@parity
def test_protocol_flow_control_is_checked(w):
    with w.loop(debug=True) as loop, asyncio_log(10) as log:
        reader = reader_of(w, loop)
        protocol = w.aio.StreamReaderProtocol(reader, loop=loop)
        trace = [raised(protocol.resume_writing)]
        protocol.pause_writing()
        trace += [raised(protocol.pause_writing), protocol._paused]
        protocol.resume_writing()
        return trace, [normal(entry[1]) for entry in log if "writing" in entry[1]], protocol._paused


@parity
def test_the_protocol_holds_the_reader_weakly(w):
    async def main():
        loop, log = w.aio.get_running_loop(), []
        reader = reader_of(w, loop)
        protocol = w.aio.StreamReaderProtocol(reader, loop=loop)
        trace = [protocol._stream_reader is reader, protocol._stream_reader_wr() is reader]
        del reader
        gc.collect()
        trace += [protocol._stream_reader, protocol.data_received(b"x"), protocol.eof_received()]
        # A server's is held until the connection is made.
        reader = reader_of(w, loop)
        reference = weakref.ref(reader)
        protocol = w.aio.StreamReaderProtocol(reader, lambda reader, writer: None, loop=loop)
        del reader
        gc.collect()
        trace.append(reference() is not None)
        protocol.connection_made(Pipe(log))
        gc.collect()
        trace.append(reference() is None)
        trace.append(protocol.connection_lost(None))
        return trace

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return w.run(main)


@parity
def test_a_rejected_connection(w):
    errors = []

    async def main():
        loop, log = w.aio.get_running_loop(), []
        protocol = w.aio.StreamReaderProtocol(reader_of(w, loop), loop=loop)
        protocol._reject_connection = True
        protocol.connection_made(Pipe(log))
        return log

    return w.run(main, errors=errors), errors


@pytest.mark.parametrize("kind", ["returns", "coroutine", "fails", "coroutine fails", "cancelled"])
@parity
def test_client_connected_cb(w, kind):
    errors = []

    async def main():
        loop, log = w.aio.get_running_loop(), []

        def plain(reader, writer):
            log.append((type(reader).__name__, type(kept(writer)).__name__, writer._reader is reader))
            if kind == "fails":
                raise ValueError("callback")

        async def coroutine(reader, writer):
            plain(reader, writer)
            if kind == "coroutine fails":
                raise ValueError("coroutine")
            if kind == "cancelled":
                w.aio.current_task().cancel()
                await asyncio.sleep(0)

        callback = plain if kind in ("returns", "fails") else coroutine
        protocol = w.aio.StreamReaderProtocol(reader_of(w, loop), callback, loop=loop)
        try:
            protocol.connection_made(Pipe(log))
        except Exception as exc:
            log.append(error(exc))
        log.append(protocol._task is None)
        for _ in range(5):
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        del protocol
        gc.collect()
        return log

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return w.run(main, errors=errors), errors


@parity
def test_garbage_with_a_waiting_reader_is_collected(w):
    async def main():
        loop = w.aio.get_running_loop()
        reader, protocol, transport, writer = writer_of(w, loop, [])
        coro = reader.read(5)
        coro.send(None)
        reader.itself = (reader, coro, protocol, writer)
        writer.itself, protocol.itself = writer, protocol
        transport.closing = True
        WRITERS.clear()
        reference = weakref.ref(reader)
        del reader, protocol, transport, writer, coro
        gc.collect()
        return reference() is None

    return w.run(main)


@parity
def test_run_down(w):
    """What a loop that ends leaves of a waiting reader."""
    with w.loop() as loop:
        reader = reader_of(w, loop)
        task = loop.create_task(reader.readline())
        drain(loop, 3)
        state = normal(repr(reader))
        task.cancel()
        drain(loop, 3)
        return state, task.cancelled(), repr(reader)
