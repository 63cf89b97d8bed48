"""Several loops at once, each in a thread of its own, with coroutines handed from one to the others."""

import socket
import threading

LOOPS, EACH = 4, 300


def test_each_loop_serves_itself_and_its_neighbours(world):
    """Every thread echoes over its own connection, and runs coroutines that the other threads hand to it."""
    aio = world.aio
    barrier = threading.Barrier(LOOPS)
    loops = [None] * LOOPS
    results = [None] * LOOPS
    errors = []

    async def double(number):
        await aio.sleep(0)
        return 2 * number

    async def main(index):
        loops[index] = aio.get_running_loop()
        await loops[index].run_in_executor(None, barrier.wait)

        async def echo(reader, writer):
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
            writer.close()

        left, right = socket.socketpair()
        reader, writer = await aio.open_connection(sock=left)
        near = aio.create_task(echo(*await aio.open_connection(sock=right)))
        neighbour = loops[(index + 1) % LOOPS]
        total = 0
        for number in range(EACH):
            message = b"%d:%d;" % (index, number)
            writer.write(message)
            handed = aio.wrap_future(aio.run_coroutine_threadsafe(double(number), neighbour))
            assert await reader.readexactly(len(message)) == message
            total += await handed
        writer.close()
        await near
        await loops[index].run_in_executor(None, barrier.wait)  # nobody leaves before all have their answers
        results[index] = total

    def run(index):
        try:
            world.run(main, index)
        except BaseException as exc:
            errors.append(exc)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(LOOPS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert results == [sum(2 * number for number in range(EACH))] * LOOPS


def test_a_storm_of_coroutines_from_eight_threads(world):
    """Each result comes back to who asked; half of them are cancelled from outside, some before they start."""
    aio = world.aio
    loop = world.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    wrong = []

    async def work(number):
        await aio.sleep(0 if number % 3 else 1000)
        return number

    def ask(thread):
        for number in range(200):
            future = aio.run_coroutine_threadsafe(work(number), loop)
            if number % 3 == 0:
                future.cancel()
                if not future.cancelled():
                    wrong.append((thread, number))
            elif future.result(20) != number:
                wrong.append((thread, number))

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def rest():
        while len(aio.all_tasks()) > 1:
            await aio.sleep(0)

    aio.run_coroutine_threadsafe(rest(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    running.join()
    loop.close()
    assert not wrong
