"""Stream transports: reading that stops, flow control, and what can be written."""

import asyncio
import sys

import pytest
from wires import scene
from worlds import raised

# --- reading stopped ------------------------------------------------------------------------------------------------


@scene()
async def test_pause_reading_with_pending_data(s):
    transport = await s.connect()
    s.note(transport.is_reading())
    transport.pause_reading()
    s.note(transport.is_reading())
    s.peer.send(b"waits")
    await s.settle()
    s.note("resuming")
    transport.resume_reading()
    s.note(transport.is_reading())
    await s.until_received(5)
    transport.pause_reading()
    transport.pause_reading()
    transport.resume_reading()
    transport.resume_reading()
    s.peer.send(b"!")
    await s.until_received(6)
    transport.close()
    s.note(transport.is_reading())
    transport.pause_reading()
    transport.resume_reading()


@scene()
async def test_pause_reading_in_connection_made(s):
    if sys.version_info < (3, 12):
        pytest.skip("3.11 forgets the pause: docs/compat.md")
    await s.connect(made=lambda proto: proto.transport.pause_reading(), before=lambda s: s.peer.send(b"early"))
    await s.settle()
    s.note("resuming")
    s.transport.resume_reading()
    await s.until_received(5)


@scene()
async def test_pause_reading_in_data_received(s):
    await s.connect(data=lambda proto, _: proto.transport.pause_reading())
    for piece in (b"1", b"2", b"3"):
        s.peer.send(piece)
        await s.settle()
    s.note("resuming")
    s.transport.resume_reading()
    await s.until_received(3)
    await s.settle()
    s.note(s.transport.is_reading())


@scene()
async def test_end_of_file_while_paused(s):
    transport = await s.connect()
    transport.pause_reading()
    s.peer.send(b"data")
    s.peer.close()
    await s.settle()
    s.note("resuming")
    transport.resume_reading()
    await s.until_lost()
    assert s.log == ["made", "resuming", ["data", b"data"], "eof", ("lost", None)]


@scene()
async def test_close_while_paused(s):
    transport = await s.connect()
    transport.pause_reading()
    s.peer.send(b"never delivered")
    await s.settle()
    transport.close()
    await s.until_lost()
    assert s.log == ["made", ("lost", None)]


# --- flow control ---------------------------------------------------------------------------------------------------


@scene()
async def test_pause_and_resume_writing(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=100_000, low=50_000)
    written = 0
    while "pause" not in s.log:
        transport.write(b"x" * 65536)
        written += 65536
    s.note(("more than high", transport.get_write_buffer_size() > 100_000))
    transport.write(b"x" * 65536)
    written += 65536
    sizes = []
    s.proto.reactions["resume"] = lambda proto: sizes.append(transport.get_write_buffer_size() <= 50_000)
    data = await s.peer_read(written)
    await s.until(lambda: "resume" in s.log)
    s.note((len(data) == written, sizes, transport.get_write_buffer_size()))
    await s.settle()
    assert s.log.count("pause") == s.log.count("resume") == 1


@scene()
async def test_pausing_is_told_inside_write(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=1000)
    s.note("writing")
    transport.write(b"x" * 4_000_000)
    s.note("written")
    assert s.log == ["made", "writing", "pause", "written"]


@scene()
async def test_small_writes_that_fit_do_not_pause(s):
    """Stock hands them to the kernel at once: nothing is kept, so nothing pauses, however low the limit."""
    transport = await s.connect()
    transport.set_write_buffer_limits(high=10)
    for _ in range(20):
        transport.write(b"x" * 50)
        s.note(transport.get_write_buffer_size())
    assert await s.peer_read(1000) == b"x" * 1000
    await s.settle()
    assert "pause" not in s.log


@scene()
async def test_a_limit_of_zero(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=0)
    s.note(transport.get_write_buffer_limits())
    transport.write(b"small")
    s.note("small written")
    await s.settle()
    written = s.write_until_full()
    s.note("full")
    await s.peer_read(written + 5)
    await s.until(lambda: "resume" in s.log)


@scene()
async def test_limits(s):
    transport = await s.connect()
    s.note(transport.get_write_buffer_limits())
    for arguments in (
        {},
        {"high": 100},
        {"low": 100},
        {"high": 100, "low": 50},
        {"high": 0},
        {"high": 100, "low": 100},
        {"high": 10, "low": 20},
        {"high": -1},
        {"low": -1},
        {"high": 10, "low": -1},
        {"high": "x"},
    ):
        try:
            transport.set_write_buffer_limits(**arguments)
        except (ValueError, TypeError) as exc:
            s.note((type(exc).__name__, str(exc) if isinstance(exc, ValueError) else ""))
        s.note(transport.get_write_buffer_limits())
    s.note(raised(transport.set_write_buffer_limits, 1, 2, 3)[0])
    assert s.log[1] == (16384, 65536)


@scene()
async def test_lowering_the_limit_below_what_is_kept(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=100 << 20)
    written = s.write_until_full(b"x" * 1_000_000)
    s.note("still writing")
    transport.set_write_buffer_limits(high=10)
    await s.settle()
    s.note("limit lowered")
    await s.peer_read(written)
    await s.settle()


@scene()
async def test_close_while_paused_writing(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=10)
    written = s.write_until_full()
    transport.close()
    assert len(await s.peer_read_to_end()) == written
    await s.until_lost()


@scene()
async def test_abort_while_paused_writing(s):
    transport = await s.connect(tight=True)
    transport.set_write_buffer_limits(high=10)
    s.write_until_full()
    transport.abort()
    await s.until_lost()
    await s.settle()


@scene()
async def test_writing_from_resume_writing(s):
    """A producer that fills up in every resume_writing: nothing is lost and no call is nested."""
    state = {"depth": 0, "left": 20, "written": 0}

    def resume(proto):
        assert state["depth"] == 0
        state["depth"] += 1
        while state["left"] and "resume" == s.log[-1]:
            proto.transport.write(b"y" * 100_000)
            state["written"] += 100_000
            state["left"] -= 1
        state["depth"] -= 1

    transport = await s.connect(tight=True, resume=resume)
    transport.set_write_buffer_limits(high=50_000)
    written = s.write_until_full()
    got = 0
    while state["left"] or got < written + state["written"]:
        got += len(await s.peer_read(min(50_000, written + state["written"] - got)))
        await asyncio.sleep(0)
    assert got == written + 20 * 100_000
    pauses, resumes = s.log.count("pause"), s.log.count("resume")
    assert resumes in (pauses, pauses - 1)
    s.log[:] = ["many pauses" if pauses > 3 else "few"]


# --- what can be written --------------------------------------------------------------------------------------------


@scene()
async def test_types_of_data(s):
    import array

    transport = await s.connect()
    for data in (
        b"bytes ",
        bytearray(b"bytearray "),
        memoryview(b"view "),
        memoryview(bytearray(b"mutable view "))[:7],
        memoryview(b"s.l.i.c.e. ")[::2],
        memoryview(array.array("I", [1, 2])),
        array.array("B", b"array "),
        b"",
        "text",
        None,
        1,
        [b"list"],
        object(),
    ):
        try:
            transport.write(data)
        except (TypeError, ValueError, BufferError, NotImplementedError) as exc:
            s.note(
                (type(exc).__name__, str(exc))
                if "address" not in str(exc) and isinstance(exc, TypeError)
                else type(exc).__name__
            )
        else:
            s.note("ok")
    s.note(("closing", transport.is_closing()))
    assert s.log[-2][0] == "TypeError"
    transport.close()
    s.note(await s.peer_read_to_end())


@scene()
async def test_subclasses_of_bytes(s):
    class Mine(bytes):
        def __len__(self):
            return 1000

    class Array(bytearray):
        pass

    transport = await s.connect()
    transport.write(Mine(b"subclass "))
    transport.write(Array(b"array"))
    transport.close()
    s.note(await s.peer_read_to_end())


@scene()
async def test_writelines(s):
    transport = await s.connect()
    transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
    transport.writelines(piece for piece in (b"d", b"e"))
    transport.writelines([])
    transport.writelines(())
    for junk in ([b"x", "text"], [None], 5, None, ["text"]):
        try:
            transport.writelines(junk)
        except TypeError:
            s.note("TypeError")
        else:
            s.note("accepted")
    transport.writelines([b"f"] * 3000)
    transport.close()
    data = await s.peer_read_to_end()
    s.note((data[:5], data.count(b"f")))


@scene()
async def test_a_generator_that_raises_in_writelines(s):
    def pieces():
        yield b"a"
        raise KeyError("no more")

    transport = await s.connect()
    s.note(raised(transport.writelines, pieces()))
    s.note(("closing", transport.is_closing()))
