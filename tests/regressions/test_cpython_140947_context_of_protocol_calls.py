"""Protocol calls run in the context their connection was made in, whoever paused and resumed reading.

cpython#140947, uvicorn#2167: resume_reading() registered the reader anew and so took over the context of its caller;
one request's context variables were then seen by the next request on the same connection.
"""

import asyncio
import contextvars

import pytest
from wires import BufferedRecorder, Recorder, play

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("recorder", [Recorder, BufferedRecorder])
def test_resumed_by_somebody_else(ours, family, recorder):
    if ours.name == "uvloop":
        pytest.skip("our own promise")

    async def body(s):
        seen = []
        VARIABLE.set("of the maker")
        await s.connect(recorder, data=lambda proto, _: seen.append(VARIABLE.get()))
        s.peer.send(b"1")
        await s.until_received(1)

        async def somebody_else():
            VARIABLE.set("of somebody else")
            s.transport.pause_reading()
            await asyncio.sleep(0.001)
            s.transport.resume_reading()

        await asyncio.create_task(somebody_else())
        s.peer.send(b"2")
        await s.until_received(2)
        return seen

    assert play(ours, body, family, "client")["answer"] == ["of the maker", "of the maker"]


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_writable_again_after_somebody_elses_write(ours, family):
    if ours.name == "uvloop":
        pytest.skip("our own promise")

    async def body(s):
        seen = []
        VARIABLE.set("of the maker")
        transport = await s.connect(tight=True, resume=lambda proto: seen.append(VARIABLE.get()))
        transport.set_write_buffer_limits(high=1000)

        async def somebody_else():
            VARIABLE.set("of somebody else")
            return s.write_until_full()

        written = await asyncio.create_task(somebody_else())
        await s.peer_read(written)
        await s.until(lambda: seen)
        return seen

    assert play(ours, body, family, "client")["answer"] == ["of the maker"]
