"""redis.asyncio on a real Redis (its addresses in REDIS_URL and REDIS_SOCKET): commands, pipelines, transactions,
blocking pops, publish/subscribe, streams, locks, megabytes, a pool under load, time limits."""

import asyncio
import os
import uuid

import redis.asyncio as redis
from redis.exceptions import WatchError

from outcome import report


async def use(client: redis.Redis, prefix: str) -> None:
    key = f"{prefix}:key"
    assert await client.ping()
    assert await client.set(key, "héllo", ex=60)
    assert await client.get(key) == "héllo".encode()
    big = os.urandom(3_000_000)
    await client.set(key, big)
    assert await client.get(key) == big
    await client.hset(f"{prefix}:hash", mapping={"a": 1, "b": 2})
    assert await client.hgetall(f"{prefix}:hash") == {b"a": b"1", b"b": b"2"}

    async with client.pipeline(transaction=False) as pipeline:
        for number in range(1000):
            pipeline.set(f"{prefix}:many:{number}", number)
        assert await pipeline.execute() == [True] * 1000
    found = [name async for name in client.scan_iter(f"{prefix}:many:*", count=100)]
    assert len(set(found)) == 1000
    values = await client.mget(f"{prefix}:many:{number}" for number in range(1000))
    assert [int(value) for value in values] == list(range(1000))

    counter = f"{prefix}:counter"
    await asyncio.gather(*(increment(client, counter) for _ in range(10)))
    assert await client.get(counter) == b"10"


async def increment(client: redis.Redis, counter: str) -> None:
    """Optimistic: read, add one, write unless somebody else wrote meanwhile."""
    async with client.pipeline() as pipeline:
        while True:
            try:
                await pipeline.watch(counter)
                value = int(await pipeline.get(counter) or 0)
                pipeline.multi()
                pipeline.set(counter, value + 1)
                await pipeline.execute()
                return
            except WatchError:
                await asyncio.sleep(0)


async def block(client: redis.Redis, prefix: str) -> None:
    popped = [asyncio.create_task(client.blpop([f"{prefix}:list"], timeout=10)) for _ in range(5)]
    await asyncio.sleep(0.05)
    await client.rpush(f"{prefix}:list", *range(5))
    assert sorted(value for _, value in await asyncio.gather(*popped)) == [b"0", b"1", b"2", b"3", b"4"]
    assert await client.blpop([f"{prefix}:nothing"], timeout=0.05) is None

    waiting = asyncio.create_task(client.blpop([f"{prefix}:nothing"], timeout=60))
    await asyncio.sleep(0.05)
    waiting.cancel()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
    assert await client.ping()

    lock_taken = []

    async def take(number: int) -> None:
        async with client.lock(f"{prefix}:lock", timeout=10, sleep=0.005):
            lock_taken.append(number)
            await asyncio.sleep(0.002)
            assert lock_taken[-1] == number

    await asyncio.gather(*(take(number) for number in range(10)))
    assert sorted(lock_taken) == list(range(10))


async def publish(client: redis.Redis, prefix: str) -> None:
    async def listen(subscribed: asyncio.Event) -> list[bytes]:
        heard = []
        async with client.pubsub() as pubsub:
            await pubsub.subscribe(f"{prefix}:news")
            await pubsub.psubscribe(f"{prefix}:by-pattern:*")
            async for message in pubsub.listen():
                if message["type"] == "psubscribe":
                    subscribed.set()
                elif message["type"] in {"message", "pmessage"}:
                    if message["data"] == b"end":
                        break
                    heard.append(message["data"])
        return heard

    ready = [asyncio.Event() for _ in range(5)]
    listeners = [asyncio.create_task(listen(event)) for event in ready]
    async with asyncio.timeout(10):
        for event in ready:
            await event.wait()
        for number in range(100):
            assert await client.publish(f"{prefix}:news", number) == 5
        await client.publish(f"{prefix}:by-pattern:x", "matched")
        await client.publish(f"{prefix}:news", "end")
        expected = [str(number).encode() for number in range(100)] + [b"matched"]
        assert await asyncio.gather(*listeners) == [expected] * 5

    stream = f"{prefix}:stream"
    await client.xgroup_create(stream, "workers", mkstream=True)
    for number in range(50):
        await client.xadd(stream, {"n": number})
    (_, entries), *_ = await client.xreadgroup("workers", "one", {stream: ">"}, count=100, block=1000)
    assert len(entries) == 50


async def main() -> None:
    prefix = uuid.uuid4().hex
    async with redis.from_url(os.environ["REDIS_URL"]) as client:
        await use(client, f"{prefix}:tcp")
        await block(client, prefix)
        await publish(client, prefix)
    async with redis.Redis(unix_socket_path=os.environ["REDIS_SOCKET"]) as client:
        await use(client, f"{prefix}:unix")

    pool = redis.BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=5, timeout=10)
    async with redis.Redis.from_pool(pool) as client:
        await asyncio.gather(*(client.incr(f"{prefix}:pooled") for _ in range(500)))
        assert await client.get(f"{prefix}:pooled") == b"500"

    async with redis.from_url(os.environ["REDIS_URL"], socket_timeout=0.1, retry=None) as client:
        try:
            await client.execute_command("DEBUG", "SLEEP", "0.5")
        except redis.TimeoutError:
            pass
        else:
            raise AssertionError("the command did not time out")
    report("redis: commands over TCP and a Unix socket, publish/subscribe, pools")


if __name__ == "__main__":
    asyncio.run(main())
