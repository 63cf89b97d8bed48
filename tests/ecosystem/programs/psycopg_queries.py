"""psycopg 3's async connections on a real PostgreSQL (its address in the PG* variables): libpq owns the socket and
the loop only watches it, by add_reader and add_writer; queries, COPY, pipelines, notifications, cancellation."""

import asyncio
import os

import psycopg

from outcome import report

ROWS = 20_000


async def connect(**options: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
    return await psycopg.AsyncConnection.connect(autocommit=True, **options)


async def use(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    async with connection.cursor() as cursor:
        blob = os.urandom(2_000_000)
        await cursor.execute("SELECT %s::bytea, %s::text", (blob, "héllo"))
        assert await cursor.fetchone() == (blob, "héllo")

        await cursor.execute("CREATE TEMPORARY TABLE t (id int PRIMARY KEY, name text)")
        async with cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(ROWS):
                await copy.write_row((number, f"name {number}"))
        await cursor.execute("SELECT count(*) FROM t")
        assert await cursor.fetchone() == (ROWS,)
        received = bytearray()
        async with cursor.copy("COPY (SELECT id FROM t ORDER BY id) TO STDOUT") as copy:
            async for chunk in copy:
                received.extend(chunk)
        assert received.split() == [str(n).encode() for n in range(ROWS)]

    async with connection.pipeline():
        cursors = [await connection.execute("SELECT %s::int", (number,)) for number in range(200)]
        assert [(await cursor.fetchone() or ())[0] for cursor in cursors] == list(range(200))

    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM t")
            raise LookupError
    except LookupError:
        pass
    try:
        await connection.execute("INSERT INTO t VALUES (1, 'again')")
    except psycopg.errors.UniqueViolation:
        pass
    else:
        raise AssertionError("a duplicate key was inserted")


async def give_up(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    query = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.1)
    query.cancel()
    (outcome,) = await asyncio.gather(query, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError | psycopg.errors.QueryCanceled), outcome
    assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def notify(
    listener: psycopg.AsyncConnection[tuple[object, ...]], speaker: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    await listener.execute("LISTEN news")
    heard = []

    async def listen() -> None:
        heard.extend([notice.payload async for notice in listener.notifies(stop_after=10)])

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(listen())
        await asyncio.sleep(0.05)
        for number in range(10):
            await speaker.execute("SELECT pg_notify('news', %s)", (f"item {number}",))
    assert heard == [f"item {number}" for number in range(10)]


async def one_of_many(number: int) -> object:
    async with await connect() as connection:
        row = await (await connection.execute("SELECT %s::int * 2", (number,))).fetchone()
        assert row is not None
        return row[0]


async def main() -> None:
    over_tls = await connect(sslmode="verify-full")
    over_unix = await connect(host=os.environ["PG_SOCKET_DIRECTORY"])
    for connection in (over_tls, over_unix):
        await use(connection)
        await give_up(connection)
    await notify(over_tls, over_unix)
    await over_tls.close()
    await over_unix.close()

    assert await asyncio.gather(*(one_of_many(number) for number in range(20))) == [2 * n for n in range(20)]
    report("psycopg: 22 connections over TLS and a Unix socket")


if __name__ == "__main__":
    asyncio.run(main())
