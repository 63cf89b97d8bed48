"""Dask's asynchronous Client on this program's loop, with real worker processes: submit, map, gather, as_completed,
cancelling, errors."""

import asyncio
import os

import dask
from distributed import Client, LocalCluster, Variable, as_completed

from outcome import report


def double(number: int) -> int:
    return 2 * number


def pid() -> int:
    return os.getpid()


def fail() -> None:
    raise ZeroDivisionError("in a worker")


async def asleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "awake"


async def main() -> None:
    async with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50, asynchronous=True
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        assert client.loop.asyncio_loop is asyncio.get_running_loop()
        assert await client.submit(double, 21) == 42
        assert await client.gather(client.map(double, range(50))) == [2 * n for n in range(50)]
        workers = await client.run(pid)
        assert len(set(workers.values())) == 2 and os.getpid() not in workers.values()

        futures = client.map(double, range(10, 20))
        seen = [await future async for future in as_completed(futures)]
        assert sorted(seen) == [2 * n for n in range(10, 20)]

        try:
            await client.submit(fail, pure=False)
            raise AssertionError("nothing was raised")
        except ZeroDivisionError as exc:
            assert str(exc) == "in a worker"

        assert await client.submit(asleep, 0.01) == "awake"
        hanging = client.submit(asleep, 1, pure=False)
        await client.cancel([hanging])
        assert hanging.cancelled()

        total = dask.delayed(sum)([dask.delayed(double)(n) for n in range(10)])
        assert await client.compute(total) == 90

        (scattered,) = await client.scatter([list(range(1000))])
        assert await client.submit(len, scattered) == 1000

        variable = Variable("number")
        await variable.set(5)
        assert await variable.get() == 5
    report("dask client")


if __name__ == "__main__":
    asyncio.run(main())
