"""asyncpg on a real PostgreSQL (its address in the PG* variables): over TLS, TCP and the Unix socket: types,
prepared statements, transactions, COPY, notifications, cursors, a pool under load, queries given up half way."""

import asyncio
import datetime
import decimal
import os
import ssl
import uuid

import asyncpg

from outcome import report

ROWS = 20_000


async def use(connection: asyncpg.Connection) -> None:
    assert await connection.fetchval("SELECT $1::int + 1", 41) == 42
    row = await connection.fetchrow(
        "SELECT $1::text AS text, $2::timestamptz AS at, $3::numeric AS number, $4::uuid AS id, $5::bytea AS bytes,"
        " $6::int[] AS array",
        "héllo",
        now := datetime.datetime.now(datetime.UTC),
        number := decimal.Decimal("12345678901234567890.0987654321"),
        identity := uuid.uuid4(),
        blob := os.urandom(2_000_000),
        [1, None, 3],
    )
    assert tuple(row) == ("héllo", now, number, identity, blob, [1, None, 3])

    statement = await connection.prepare("SELECT repeat($1, $2)")
    for length in (0, 1, 8192, 1_000_000):
        assert await statement.fetchval("x", length) == "x" * length

    table = f"t{uuid.uuid4().hex}"
    await connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, name text)")
    copied = await connection.copy_records_to_table(table, records=((n, f"name {n}") for n in range(ROWS)))
    assert copied == f"COPY {ROWS}"
    try:
        async with connection.transaction():
            await connection.execute(f"DELETE FROM {table}")
            raise LookupError
    except LookupError:
        pass
    assert await connection.fetchval(f"SELECT count(*) FROM {table}") == ROWS
    try:
        await connection.execute(f"INSERT INTO {table} VALUES (1, 'again')")
    except asyncpg.UniqueViolationError:
        pass
    else:
        raise AssertionError("a duplicate key was inserted")

    async with connection.transaction():
        total = 0
        async for record in connection.cursor(f"SELECT id FROM {table}", prefetch=500):
            total += record["id"]
    assert total == sum(range(ROWS))

    received = bytearray()

    async def collect(chunk: bytes) -> None:
        received.extend(chunk)
        await asyncio.sleep(0)

    await connection.copy_from_table(table, output=collect, columns=["id"])
    assert received.split() == [str(n).encode() for n in range(ROWS)]
    await connection.execute(f"DROP TABLE {table}")


async def give_up(connection: asyncpg.Connection) -> None:
    try:
        await connection.fetchval("SELECT pg_sleep(60)", timeout=0.1)
    except TimeoutError:
        pass
    else:
        raise AssertionError("the query did not time out")
    assert await connection.fetchval("SELECT 1") == 1

    query = asyncio.create_task(connection.fetchval("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.1)
    query.cancel()
    assert isinstance((await asyncio.gather(query, return_exceptions=True))[0], asyncio.CancelledError)
    assert await connection.fetchval("SELECT 2") == 2


async def notify(listener: asyncpg.Connection, speaker: asyncpg.Connection) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("news", lambda connection, pid, channel, payload: heard.put_nowait(payload))
    for number in range(10):
        await speaker.execute("SELECT pg_notify('news', $1)", f"item {number}")
    async with asyncio.timeout(10):
        assert [await heard.get() for _ in range(10)] == [f"item {number}" for number in range(10)]
    await listener.reset(timeout=10)


async def use_pool(context: ssl.SSLContext) -> None:
    async with asyncpg.create_pool(min_size=2, max_size=8, ssl=context) as pool:

        async def one(number: int) -> int:
            async with pool.acquire() as connection:
                value = await connection.fetchval("SELECT $1::int * 2", number)
                assert isinstance(value, int)
                return value

        assert await asyncio.gather(*(one(number) for number in range(300))) == [2 * n for n in range(300)]


async def main() -> None:
    context = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
    over_tls = await asyncpg.connect(ssl=context)
    assert await over_tls.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    over_tcp = await asyncpg.connect(ssl=False)
    over_unix = await asyncpg.connect(host=os.environ["PG_SOCKET_DIRECTORY"])
    for connection in (over_tls, over_tcp, over_unix):
        await use(connection)
    await give_up(over_tls)
    await give_up(over_unix)
    await notify(over_tls, over_tcp)
    await asyncio.gather(over_tls.close(), over_tcp.close(), over_unix.close())
    await use_pool(context)

    try:
        await asyncpg.connect(ssl=False, password="wrong")
    except asyncpg.InvalidPasswordError:
        pass
    else:
        raise AssertionError("a wrong password was accepted")
    report("asyncpg: three kinds of connection and a pool")


if __name__ == "__main__":
    asyncio.run(main())
