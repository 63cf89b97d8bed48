"""Many connections; peers that are slow, silent, or gone. Everything is accounted for, and nothing is timed."""

import signal

import pytest
from driver import loaded, peers, serve_others
from servers import KINDS, serving
from sizes import BUSY, CHUNK_LEN, FULL, HIGH_LEN, IDLE, POUR_LEN, SEED

EXCHANGES = 20 if FULL else 10
# A write may be a chunk above the mark when the writer is told; and aiohttp looks only once in 64 KiB.
BUFFERED_LEN_MAX = dict.fromkeys(KINDS, HIGH_LEN + CHUNK_LEN) | {"aiohttp": HIGH_LEN + 64 * 1024 + 2 * CHUNK_LEN}

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@loaded
async def test_many_connections(kind: str) -> object:
    """Idle and busy ones at once; all of them are alive to the end, and end as their peers say."""
    async with serving(kind) as (port, book):
        options = {"kind": kind, "port": port, "idle": IDLE, "busy": BUSY, "exchanges": EXCHANGES, "seed": SEED}
        async with peers("many", **options) as everybody:
            await everybody.says("connected")
            await book.until(lambda: book.begun == IDLE + BUSY)
            everybody.tell("exchange")
            await everybody.says("exchanged")
            assert len(book.open) == IDLE + BUSY, "some are gone"
            everybody.tell("leave")
            left = await everybody.says("left")
            await everybody.ends()
    assert book.begun == IDLE + BUSY
    assert book.ends == {"clean": IDLE + BUSY - left["resets"], "ConnectionResetError": left["resets"]}
    return book


@kinds
@loaded
async def test_slow_readers(kind: str) -> object:
    """What waits for them stops at the high-water mark, others are served, and they get every byte in the end."""
    async with serving(kind, slow_peers=True) as (port, book):
        async with peers("pour", kind=kind, port=port, count=BUSY, seed=SEED) as slow:
            await slow.says("asked")
            await book.until_stalled(BUSY)
            await serve_others(kind, port)
            await book.until_stalled(BUSY)
            assert book.buffered_len_max <= BUFFERED_LEN_MAX[kind]
            assert max(book.poured.values()) < POUR_LEN
            slow.tell("read")
            await slow.says("left")
            await slow.ends()
    assert book.buffered_len_max <= BUFFERED_LEN_MAX[kind]
    assert set(book.poured.values()) == {POUR_LEN}
    assert set(book.ends) == {"clean", "ConnectionResetError"}  # some of the others
    return book


@kinds
@loaded
async def test_slow_senders(kind: str) -> object:
    """Bytes come one at a time; between them others have their exchanges. Half of the requests never end."""
    async with serving(kind) as (port, book):
        async with peers("drip", kind=kind, port=port, count=BUSY, seed=SEED) as slow:
            await slow.says("waiting")
            assert len(book.open) == BUSY + 1
            slow.tell("end")
            await slow.says("left")
            await slow.ends()
    assert all(book.received[number] == 40 for number in range(1, BUSY, 2))
    assert book.begun == sum(book.ends.values()) == BUSY + 1
    return book


@kinds
@loaded
async def test_a_stopped_peer_goes_on(kind: str) -> object:
    """Its kernel answers, but nobody reads: as for slow readers, and then it is as if nothing had been."""
    async with serving(kind, slow_peers=True) as (port, book):
        async with peers("pour", kind=kind, port=port, count=BUSY, seed=SEED) as stopped:
            await stopped.says("asked")
            stopped.send_signal(signal.SIGSTOP)
            await book.until_stalled(BUSY)
            await serve_others(kind, port)
            await book.until_stalled(BUSY)
            assert book.buffered_len_max <= BUFFERED_LEN_MAX[kind]
            assert max(book.poured.values()) < POUR_LEN
            stopped.send_signal(signal.SIGCONT)
            stopped.tell("read")
            await stopped.says("left")
            await stopped.ends()
    assert set(book.poured.values()) == {POUR_LEN}
    return book


@kinds
@loaded
async def test_a_stopped_peer_is_given_up(kind: str) -> object:
    """The server can end such connections: they are gone although the peer knows nothing of it."""
    async with serving(kind, slow_peers=True) as (port, book):
        async with peers("pour", kind=kind, port=port, count=BUSY, seed=SEED) as stopped:
            await stopped.says("asked")
            stopped.send_signal(signal.SIGSTOP)
            await book.until_stalled(BUSY)
            for transport in list(book.open.values()):
                transport.abort()
            await book.until(lambda: not book.open)
    assert book.begun == sum(book.ends.values()) == BUSY
    return book


@kinds
@loaded
async def test_a_killed_peer(kind: str) -> object:
    """With requests under way and answers unread."""
    async with serving(kind, slow_peers=True) as (port, book):
        async with peers("pour", kind=kind, port=port, count=BUSY, seed=SEED) as killed:
            await killed.says("asked")
            await book.until_stalled(BUSY)
            killed.send_signal(signal.SIGKILL)
            await book.until(lambda: not book.open)
        await serve_others(kind, port)
    assert book.begun == sum(book.ends.values()) == BUSY + 20
    return book


@kinds
@loaded
async def test_peers_that_leave_in_the_middle(kind: str) -> object:
    """Of a message; by the end of their side, by closing, and by a reset."""
    async with serving(kind) as (port, book):
        async with peers("leave", kind=kind, port=port, count=BUSY, seed=SEED) as leaving:
            left = await leaving.says("left")
            await leaving.ends()
    for number, (sent, how) in enumerate(left):
        assert book.received[number] <= sent
        if how == "eof" and kind != "aiohttp":
            assert book.received[number] == sent, f"connection {number} has lost bytes"
    assert book.begun == sum(book.ends.values()) == BUSY
    return book
