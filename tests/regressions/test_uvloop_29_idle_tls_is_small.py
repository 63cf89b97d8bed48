"""An idle TLS connection holds less than 64 KiB of buffers, whatever it has been through.

uvloop#726 (256 KB per connection). Counted are the bytes of each buffer, not the process's memory: OpenSSL's two BIOs
say how large they are, and everything that the Python objects of a connection refer to is looked at.
"""

import ctypes
import gc
import ssl
import sys

import pytest
from tls_wires import Scene, engine  # noqa: F401
from wires import Recorder
from worlds import until

LIMIT = 64 * 1024


class Quiet(Recorder):
    """Keeps nothing."""

    count = 0

    def take(self, data):
        self.count += len(data)


def buffers_len(*roots):
    """Bytes in bytes and bytearray objects that these refer to, over instances of anything but modules and classes."""
    seen, todo, size = set(), list(roots), 0
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type) or type(thing).__name__ in ("module", "EventLoop", "function"):
            continue
        seen.add(id(thing))
        if isinstance(thing, bytes | bytearray):
            size += sys.getsizeof(thing)
        elif isinstance(thing, memoryview):
            todo.append(thing.obj)
        else:
            todo += gc.get_referents(thing)
    return size


class BufMem(ctypes.Structure):
    """OpenSSL's BUF_MEM."""

    _fields_ = [
        ("length", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("max", ctypes.c_size_t),
        ("flags", ctypes.c_ulong),
    ]


def memory_len(*bios):
    """How much memory these MemoryBIO objects hold, full or empty; None where OpenSSL cannot be asked."""
    try:
        control = ctypes.CDLL(sys.modules["_ssl"].__file__).BIO_ctrl
    except (AttributeError, OSError):
        return None
    control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    size = 0
    for bio in bios:
        memory = ctypes.POINTER(BufMem)()
        address = ctypes.c_void_p.from_address(id(bio) + object.__basicsize__).value  # behind the object's head
        control(address, 115, 0, ctypes.byref(memory))  # BIO_C_GET_BUF_MEM_PTR
        size += memory.contents.max
    return size


def test_the_measure():
    bio = ssl.MemoryBIO()
    if memory_len(bio) is None:
        pytest.skip("this Python's OpenSSL offers no functions to call")
    assert memory_len(bio) == 0
    bio.write(b"x" * 100_000)
    assert len(bio.read()) == 100_000
    assert memory_len(bio) >= 100_000


@pytest.mark.parametrize("what", ["nothing", "large", "paused", "slow", "unsent"])
def test_idle(ours, engine, what):  # noqa: F811
    async def main():
        with Scene(ours) as s:
            await s.connect(Quiet)
            size = 0
            if what == "large":
                size = 3_000_000
                s.transport.write(b"x" * size)
                await s.peer.write(await s.peer.read(size))
            elif what == "paused":
                size = 250_000
                s.transport.pause_reading()
                await s.peer.write(b"x" * size)
                await until(lambda: s.transport.get_read_buffer_size() >= size)
                s.transport.resume_reading()
            elif what == "unsent":  # piece by piece while the transport below is full
                while s.transport.get_write_buffer_size() < 2_000_000:
                    s.transport.write(b"x" * 50_000)
                    size += 50_000
                await s.peer.write(await s.peer.read(size))
            elif what == "slow":
                while s.transport.get_write_buffer_size() < 2_000_000:
                    s.transport.write(b"x" * 500_000)
                    size += 500_000
                await s.peer.write(await s.peer.read(size))
            await until(lambda: s.proto.count == size)
            await until(lambda: s.transport.get_write_buffer_size() == 0)
            protocol = s.transport._ssl_protocol
            held = protocol._held_len(), memory_len(protocol._incoming, protocol._outgoing)
            answer = held, buffers_len(protocol, s.transport)
            s.transport.abort()
            await until(lambda: s.proto.is_lost)
            return answer

    (held, bios), objects = ours.run(main, errors=[])
    assert objects < 4096
    assert held + objects < LIMIT
    if engine == "methods":
        assert held == 0
    if bios is not None:
        assert max(held, bios) + objects < LIMIT


def test_a_foreign_transport_costs_a_small_buffer(ours, engine):  # noqa: F811
    """A transport that is not ours receives into a buffer of the connection's own."""

    async def main():
        with Scene(ours) as s:
            await s.connect(Quiet)
            protocol = s.transport._ssl_protocol
            view = protocol.get_buffer(-1)
            answer = len(view), buffers_len(protocol, s.transport)
            s.transport.abort()
            await until(lambda: s.proto.is_lost)
            return answer

    room, objects = ours.run(main, errors=[])
    assert 16 * 1024 <= room <= objects < LIMIT / 2
