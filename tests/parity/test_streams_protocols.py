"""Stream transports: protocols changed on the way, BufferedProtocol, what surrounds a call, the transport itself."""

import asyncio
import contextvars
import socket

import pytest
from wires import BufferedRecorder, Recorder, fail, reason, scene
from worlds import normal, raised

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


# --- protocols changed on the way -----------------------------------------------------------------------------------


@scene()
async def test_set_protocol(s):
    transport = await s.connect()
    first = s.proto
    s.note(transport.get_protocol() is first)
    s.peer.send(b"for the first")
    await s.until_received(13)
    second = Recorder([])
    transport.set_protocol(second)
    s.note(transport.get_protocol() is second)
    s.peer.send(b"for the second")
    await s.until(lambda: len(second.received) == 14)
    third = BufferedRecorder([])
    transport.set_protocol(third)
    s.peer.send(b"for the third")
    await s.until(lambda: len(third.received) == 13)
    transport.set_protocol(first)
    s.peer.send(b"!")
    await s.until_received(14)
    transport.set_protocol(second)
    s.peer.close()
    await s.until(lambda: second.is_lost)
    return second.log, third.log


@scene()
async def test_set_protocol_inside_data_received(s):
    second = Recorder([])

    def data(proto, _):
        proto.transport.set_protocol(second)

    await s.connect(data=data)
    s.peer.send(b"one")
    await s.until_received(3)
    s.peer.send(b"two")
    await s.until(lambda: len(second.received) == 3)
    return second.log


@scene()
async def test_a_protocol_without_the_base_class(s):
    class Bare:
        def connection_made(self, transport):
            s.note("made")
            self.transport = transport

        def data_received(self, data):
            s.note(["data", data])

        def eof_received(self):
            s.note("eof")

        def connection_lost(self, exc):
            s.note(("lost", reason(exc)))

    class Wrapper(Recorder):
        pass

    await s.connect(Wrapper)
    s.transport.set_protocol(Bare())
    s.peer.send(b"x")
    await s.until(lambda: ["data", b"x"] in s.log)
    s.peer.close()
    await s.until(lambda: ("lost", None) in s.log)


@scene()
async def test_methods_replaced_on_the_instance(s):
    """Libraries patch a live protocol (proxy detection, websockets upgrades): each call looks the method up again."""
    await s.connect()
    s.peer.send(b"a")
    await s.until_received(1)
    s.proto.data_received = lambda data: s.note(("patched", bytes(data)))
    s.peer.send(b"b")
    await s.until(lambda: ("patched", b"b") in s.log)


# --- BufferedProtocol -----------------------------------------------------------------------------------------------


@scene()
async def test_a_buffered_protocol(s):
    hints = []
    await s.connect(BufferedRecorder, get_buffer=lambda proto, hint: hints.append(hint))
    s.peer.send(b"x" * 2500)
    await s.until_received(2500)
    s.peer.close()
    await s.until_lost()
    assert set(hints) == {-1}
    return len(s.proto.received)


@scene()
async def test_a_small_buffer_gets_everything_in_pieces(s):
    counts = []
    await s.connect(BufferedRecorder, size=7, data=lambda proto, count: counts.append(count))
    s.peer.send(bytes(range(100)))
    await s.until_received(100)
    assert max(counts) == 7
    return sum(counts)


@scene()
@pytest.mark.parametrize("kind", ["memoryview", "array", "mmap"])
async def test_kinds_of_buffers(s, kind):
    import array
    import mmap

    def get_buffer(proto, hint):
        if kind == "memoryview":
            return memoryview(proto.buffer)[:500]
        proto.other = array.array("B", bytes(500)) if kind == "array" else mmap.mmap(-1, 500)
        return proto.other

    def copied(proto, count):
        if kind != "memoryview":
            proto.seen = bytes(memoryview(proto.other)[:count])

    await s.connect(BufferedRecorder, get_buffer=get_buffer, data=copied)
    s.peer.send(b"into the buffer")
    await s.until_received(15)
    answer = getattr(s.proto, "seen", None)
    s.log.clear()
    s.transport.abort()
    await s.settle()
    return answer


@scene()
@pytest.mark.parametrize("what", ["empty", "raises", "read-only", "none", "text"])
async def test_bad_buffers(s, what):
    def get_buffer(proto, hint):
        if what == "raises":
            raise KeyError("no buffer")
        return {"empty": bytearray(), "read-only": b"12345", "none": NOTHING, "text": "text"}[what]

    await s.connect(BufferedRecorder, get_buffer=get_buffer)
    s.peer.send(b"data")
    await s.until_lost()
    s.note(s.transport.is_closing())


class _Nothing:
    """Stands for None, which the recorder takes as no answer."""


NOTHING = _Nothing()


@scene()
async def test_buffer_updated_raises(s):
    await s.connect(BufferedRecorder, data=fail)
    s.peer.send(b"data")
    await s.until_lost()


@scene()
async def test_the_buffer_is_released(s):
    """After buffer_updated the bytearray can be resized: no view of it is kept."""
    resized = []

    def data(proto, count):
        resized.append(True)

    await s.connect(BufferedRecorder, data=data)
    s.peer.send(b"abc")
    await s.until_received(3)
    s.proto.buffer.extend(b"more")
    s.peer.send(b"def")
    await s.until_received(6)
    s.proto.buffer.clear()
    s.proto.buffer.extend(bytes(50))
    s.peer.send(b"ghi")
    await s.until_received(9)


@scene()
async def test_end_of_file_with_a_buffered_protocol(s):
    transport = await s.connect(BufferedRecorder, eof=lambda proto: True)
    s.peer.shutdown(socket.SHUT_WR)
    await s.until(lambda: "eof" in s.log)
    transport.write(b"after the end")
    s.note(await s.peer_read(13))


# --- what surrounds a call ------------------------------------------------------------------------------------------


@scene()
async def test_contexts_of_the_calls(s):
    """Every call of one connection sees the context the connection was made in."""
    values = []
    look = lambda proto, *args: values.append(VARIABLE.get())  # noqa: E731
    VARIABLE.set("of the maker")
    await s.connect(made=look, data=look, eof=look, lost=look)
    VARIABLE.set("later")
    s.peer.send(b"x")
    await s.until_received(1)
    s.peer.close()
    await s.until_lost()
    return values


@scene()
async def test_no_current_task_inside_the_calls(s):
    tasks = []
    look = lambda proto, *args: tasks.append(s.w.aio.current_task())  # noqa: E731
    await s.connect(data=look, eof=look, lost=look)
    s.peer.send(b"x")
    await s.until_received(1)
    s.peer.close()
    await s.until_lost()
    return tasks


@scene()
async def test_futures_set_inside_the_calls_wake_tasks(s):
    fut = s.loop.create_future()
    await s.connect(data=lambda proto, data: fut.set_result(data))
    s.loop.call_later(0.002, s.peer.send, b"wake")
    s.note(await fut)


# --- the transport itself -------------------------------------------------------------------------------------------


@scene()
async def test_extra_info(s):
    transport = await s.connect()
    sock = transport.get_extra_info("socket")
    s.note((type(sock).__name__, sock.family.name, sock.type.name, sock.fileno() > 0, sock.gettimeout()))
    s.note(transport.get_extra_info("sockname") == sock.getsockname())
    s.note(type(transport.get_extra_info("sockname")).__name__)
    s.note(transport.get_extra_info("peername") == s.peer.getsockname())
    s.note(type(transport.get_extra_info("peername")).__name__)
    for key in ("unknown", "sslcontext", "ssl_object", "cipher", "pipe", "subprocess"):
        s.note((key, transport.get_extra_info(key), transport.get_extra_info(key, "default")))
    s.note(raised(transport.get_extra_info)[0])
    if s.family == "tcp":
        s.note(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    transport.close()
    s.note(transport.get_extra_info("socket") is sock)
    await s.until_lost()
    s.note(transport.get_extra_info("socket") is sock)
    s.note(type(transport.get_extra_info("peername")).__name__)
    s.note(sock.fileno())
    assert ("unknown", None, "default") in s.log


@scene()
async def test_the_class_of_a_transport(s):
    transport = await s.connect()
    names = [
        isinstance(transport, asyncio.Transport),
        isinstance(transport, asyncio.ReadTransport),
        isinstance(transport, asyncio.WriteTransport),
        isinstance(transport, asyncio.BaseTransport),
        isinstance(transport, s.w.aio.Transport),
    ]
    assert all(names)
    assert repr(transport)
    transport.close()
    assert repr(transport)
    await s.until_lost()
    assert repr(transport)
    return names, sorted(n for n in dir(asyncio.Transport) if not n.startswith("_") and not hasattr(transport, n))


@scene()
async def test_the_socket_of_a_transport_cannot_be_driven_directly(s):
    await s.connect()
    sock = s.transport.get_extra_info("socket")
    names = ("recv", "send", "sendall", "close", "accept", "connect", "settimeout", "setblocking", "makefile")
    return [hasattr(sock, name) for name in names], normal(type(sock).__module__)


@scene()
async def test_an_unclosed_transport_warns_and_closes(s):
    import gc
    import warnings

    if s.side == "server":
        return "the Server of 3.12 waits for ever for a transport that went away"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await s.connect()
        await s.settle()
        s.transport.pause_reading()  # a transport that reads is held by its loop
        s.proto.transport = s.transport = None
        s.proto = None
        gc.collect()
        await s.settle()
        s.note(s.peer_ended())
    return sorted({c.category.__name__ for c in caught if "transport" in str(c.message)})
