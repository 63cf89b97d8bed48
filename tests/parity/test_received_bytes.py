"""What was received stays what it was: memory that is received into again must be nobody's any more."""

import asyncio
import contextlib
import random
import socket

import pytest
from worlds import parity, until

# Around the sizes at which receiving changes its ways, steady and not.
STEADY = [1, 64, 479, 480, 500, 1024, 1100, 4095, 4096, 16_384, 40_000]
MIXED = [
    500,
    520,
    490,
    5000,
    480,
    1024,
    1024,
    1024,
    1200,
    1024,
    100,
    1024,
    1024,
    1024,
    1024,
    30_000,
    1024,
    66_000,
    1024,
]


def message(index, size):
    return bytes((index * 31 + place * 7) % 251 for place in range(size))


async def exchange(loop, peer, outgoing, arrived):
    """Send each message when the one before has arrived."""
    for number, data in enumerate(outgoing, 1):
        await loop.sock_sendall(peer, data)
        while arrived.total < sum(map(len, outgoing[:number])):
            arrived.event.clear()
            await arrived.event.wait()


class Arrived:
    def __init__(self):
        self.total = 0
        self.event = asyncio.Event()

    def add(self, count):
        self.total += count
        self.event.set()


def outgoing_of(sizes):
    return [message(index, size) for index, size in enumerate(sizes)]


@pytest.mark.parametrize(
    "sizes", [*([size] * 8 for size in STEADY), MIXED, MIXED[::-1]], ids=lambda sizes: f"{sizes[0]}x{len(sizes)}"
)
@pytest.mark.parametrize("keep", ["all", "none", "some"])
@parity
def test_a_protocol_may_keep_what_it_gets(w, sizes, keep):
    outgoing = outgoing_of(sizes)

    async def main():
        loop = w.aio.get_running_loop()
        arrived, kept, copies = Arrived(), [], []
        chance = random.Random(1)

        class Keeper(w.aio.Protocol):
            def data_received(self, data):
                copies.append(bytes(bytearray(data)))
                if keep == "all" or (keep == "some" and chance.random() < 0.5):
                    kept.append((len(copies) - 1, data))
                assert type(data) is bytes
                assert hash(data) == hash(copies[-1])
                arrived.add(len(data))

        ours, peer = socket.socketpair()
        with peer:
            ours.setblocking(False)
            peer.setblocking(False)
            transport, _ = await loop.create_connection(Keeper, sock=ours)
            await exchange(loop, peer, outgoing, arrived)
            transport.close()
        assert all(data == copies[index] for index, data in kept)
        assert {data: index for index, data in kept} == {copies[index]: index for index, data in kept}
        return b"".join(copies)

    whole = w.run(main)
    assert whole == b"".join(outgoing)
    return len(whole)


@pytest.mark.parametrize(
    "sizes", [*([size] * 8 for size in STEADY), MIXED, MIXED[::-1]], ids=lambda sizes: f"{sizes[0]}x{len(sizes)}"
)
@pytest.mark.parametrize("part", [300, 33_000, 65_536])
@parity
def test_a_program_may_keep_what_it_reads(w, sizes, part):
    outgoing = outgoing_of(sizes)

    async def main():
        loop = w.aio.get_running_loop()
        ours, peer = socket.socketpair()
        arrived, kept, copies = Arrived(), [], []
        with peer:
            ours.setblocking(False)
            peer.setblocking(False)
            reader, writer = await w.aio.open_unix_connection(sock=ours)
            sending = loop.create_task(exchange(loop, peer, outgoing, arrived))
            while arrived.total < sum(sizes):
                data = await reader.read(part)
                assert 0 < len(data) <= part
                copies.append(bytes(bytearray(data)))
                if len(copies) % 3 == 0:
                    kept.append((len(copies) - 1, data))
                arrived.add(len(data))
            await sending
            writer.close()
        assert all(data == copies[index] for index, data in kept)
        return b"".join(copies)

    whole = w.run(main)
    assert whole == b"".join(outgoing)
    return len(whole)


@parity
def test_many_connections_share_memory_and_mix_nothing_up(w):
    chance = random.Random(7)
    plans = [[chance.choice([100, 700, 1024, 9000, 70_000, 110_000]) for _ in range(12)] for _ in range(12)]

    answered = []

    async def answer(reader, writer):
        held = []
        while data := await reader.read(65_536):
            held.append((data, bytes(bytearray(data))))
            del held[:-3]
            writer.write(data)
            await writer.drain()
            assert all(now == then for now, then in held)
        writer.close()
        answered.append(writer)

    async def client(port, seed, sizes):
        reader, writer = await w.aio.open_connection("127.0.0.1", port)
        for index, size in enumerate(sizes):
            data = message(seed * 100 + index, size)
            writer.write(data)
            assert await reader.readexactly(size) == data
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return len(sizes)

    async def main():
        server = await w.aio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        counts = await w.aio.gather(*(client(port, seed, sizes) for seed, sizes in enumerate(plans)))
        # On a busy machine the last ones have not heard of the end yet; to be cancelled then is an error before 3.12.3.
        await until(lambda: len(answered) == len(plans))
        server.close()
        return counts

    return w.run(main)


@pytest.mark.parametrize("size", [20_000, 40_000, 70_000, 200_000])
@parity
def test_writes_of_a_turn_arrive_in_order(w, size):
    """In turns with several writes, then with one, then with several: whatever is expected of the next."""

    async def main():
        loop = w.aio.get_running_loop()
        ours, peer = socket.socketpair()
        with peer:
            ours.setblocking(False)
            peer.setblocking(False)
            transport, _ = await loop.create_connection(w.aio.Protocol, sock=ours)

            async def receive(count):
                got = bytearray()
                while len(got) < count:
                    got += await loop.sock_recv(peer, count - len(got))
                return bytes(got)

            seen = []
            for number, count in enumerate([1, 2, 2, 3, 1, 1, 4, 2, 1]):
                pieces = [message(number * 10 + piece, size + piece) for piece in range(count)]
                for piece in pieces:
                    transport.write(piece)
                unsent = transport.get_write_buffer_size()
                assert 0 <= unsent <= sum(map(len, pieces))
                seen.append(await receive(sum(map(len, pieces))) == b"".join(pieces))
            transport.close()
        assert all(seen)
        return seen

    return w.run(main)


@pytest.mark.parametrize("sizes", [[13_000] * 8, [40_000] * 8, MIXED, MIXED[::-1]], ids=lambda sizes: f"{sizes[0]}x8")
@pytest.mark.parametrize("keep", ["all", "none", "some"])
@pytest.mark.parametrize("limit", [12_500, 20_000, 262_144])
@pytest.mark.parametrize("early", [True, False], ids=["there", "waited-for"])
@parity
def test_who_receives_from_a_socket_may_keep_it(w, sizes, keep, limit, early):
    outgoing = outgoing_of(sizes)

    async def main():
        loop = w.aio.get_running_loop()
        kept, copies = [], []
        chance = random.Random(2)
        ours, peer = socket.socketpair()
        with ours, peer:
            ours.setblocking(False)
            peer.setblocking(False)
            for data in outgoing:
                if early:
                    peer.send(data)
                else:
                    loop.call_soon(peer.send, data)
                left = len(data)
                while left:
                    got = await loop.sock_recv(ours, limit)
                    copies.append(bytes(bytearray(got)))
                    assert type(got) is bytes
                    assert 0 < len(got) <= min(left, limit)
                    assert hash(got) == hash(copies[-1])
                    left -= len(got)
                    if keep == "all" or (keep == "some" and chance.random() < 0.5):
                        kept.append((len(copies) - 1, got))
                    del got
        assert all(data == copies[index] for index, data in kept)
        return b"".join(copies)

    whole = w.run(main)
    assert whole == b"".join(outgoing)
    return len(whole)


# Around the size from which datagrams are received into memory that is used again, growing past what is expected, too.
DATAGRAMS = [100, 8191, 8192, 8192, 9000, 40_000, 8192, 40_000, 40_000, 60_000, 1, 100_000, 60_000, 0, 60_000, 150_000]


@pytest.mark.parametrize("sizes", [DATAGRAMS, DATAGRAMS[::-1], [20_000] * 12], ids=["growing", "shrinking", "steady"])
@pytest.mark.parametrize("keep", ["all", "none", "some"])
@pytest.mark.parametrize("ahead", [1, 3])
@parity
def test_who_gets_datagrams_may_keep_them(w, sizes, keep, ahead):
    outgoing = outgoing_of(sizes)

    async def main():
        loop = w.aio.get_running_loop()
        arrived, kept, copies = Arrived(), [], []
        chance = random.Random(3)

        class Keeper(w.aio.DatagramProtocol):
            def datagram_received(self, data, sender):
                copies.append(bytes(bytearray(data)))
                if keep == "all" or (keep == "some" and chance.random() < 0.5):
                    kept.append((len(copies) - 1, data))
                assert type(data) is bytes
                assert hash(data) == hash(copies[-1])
                arrived.add(1)

        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with peer:
            ours.setblocking(False)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
            transport, _ = await loop.create_datagram_endpoint(Keeper, sock=ours)
            for begin in range(0, len(outgoing), ahead):
                for data in outgoing[begin : begin + ahead]:
                    peer.send(data)
                while arrived.total < min(begin + ahead, len(outgoing)):
                    arrived.event.clear()
                    await arrived.event.wait()
            transport.close()
            await w.aio.sleep(0)
        assert all(data == copies[index] for index, data in kept)
        assert copies == outgoing
        return [len(copy) for copy in copies]

    seen = w.run(main)
    assert seen == sizes
    return seen
