"""Who runs when: rounds of call_soon count the turns, and every wake-up must fall in the same round and order.

Libraries lean on these orders without knowing it (a lock handed over one turn later is a different program), so the
whole trace of each body is compared, not only its result.
"""

import asyncio

import pytest
from worlds import Generations, drain, parity, since


@parity
def test_call_soon_is_first_in_first_out(w):
    with w.loop() as loop:
        at = Generations(loop)

        def nested(name, depth):
            at(name)
            if depth:
                loop.call_soon(nested, name + "l", depth - 1)
                loop.call_soon(nested, name + "r", depth - 1)

        for name in "abc":
            loop.call_soon(nested, name, 3)
        drain(loop)
        return at.log


@parity
def test_more_callbacks_than_any_batch_keep_their_order(w):
    with w.loop() as loop:
        seen = []
        for number in range(1000):
            loop.call_soon(seen.append, number)
        for number in range(0, 1000, 7):
            loop.call_soon(lambda n=number: loop.call_soon(seen.append, -n))
        drain(loop, 5)
        assert seen[:1000] == list(range(1000))
        return seen


@parity
def test_call_soon_threadsafe_from_the_loops_own_thread_keeps_the_order(w):
    with w.loop() as loop:
        seen = []

        def both():
            loop.call_soon(seen.append, 1)
            loop.call_soon_threadsafe(seen.append, 2)
            loop.call_soon(seen.append, 3)
            loop.call_soon_threadsafe(seen.append, 4)

        loop.call_soon_threadsafe(seen.append, "first")
        loop.call_soon(both)
        loop.call_soon_threadsafe(seen.append, "third")
        drain(loop, 10)
        return seen


@parity
def test_set_result_wakes_a_task_one_turn_later(w):
    with w.loop() as loop:
        at = Generations(loop)
        fut = loop.create_future()

        async def waiter():
            at("waiting")
            at(await fut)
            await w.aio.sleep(0)
            at("after sleep")

        async def setter():
            at("setter")
            fut.set_result("woken")
            at("set")
            loop.call_soon(at, "soon after set")

        loop.create_task(waiter())
        loop.create_task(setter())
        loop.call_soon(at, "marker")
        drain(loop)
        return at.log


@parity
def test_a_result_set_by_a_plain_callback(w):
    with w.loop() as loop:
        at = Generations(loop)
        fut = loop.create_future()

        async def waiter():
            at(await fut)

        task = loop.create_task(waiter())
        task.add_done_callback(lambda _: at("waiter done"))
        loop.call_soon(loop.call_soon, fut.set_result, "woken")
        loop.call_soon(loop.call_soon, at, "same turn as set")
        drain(loop)
        return at.log


@parity
def test_done_callbacks_and_tasks_mix_in_registration_order(w):
    with w.loop() as loop:
        at = Generations(loop)
        fut = loop.create_future()

        async def waiter(name):
            await fut
            at(name)

        fut.add_done_callback(lambda _: at("callback 1"))
        loop.create_task(waiter("task 1"))
        drain(loop, 2)
        fut.add_done_callback(lambda _: at("callback 2"))
        loop.create_task(waiter("task 2"))
        drain(loop, 2)
        fut.add_done_callback(lambda _: at("callback 3"))
        fut.set_result(None)
        fut.add_done_callback(lambda _: at("callback 4, late"))
        loop.create_task(waiter("task 3, late"))
        drain(loop)
        return at.log


@parity
def test_a_done_callback_that_changes_the_future_callbacks(w):
    with w.loop() as loop:
        at = Generations(loop)
        fut = loop.create_future()

        def third(_):
            at("third")

        def first(f):
            at("first")
            f.add_done_callback(lambda _: at("added while running"))
            at(("removed", f.remove_done_callback(third)))

        fut.add_done_callback(first)
        fut.add_done_callback(lambda _: at("second"))
        fut.add_done_callback(third)
        fut.set_result(1)
        drain(loop)
        return at.log


@parity
def test_removing_a_repeated_callback(w):
    with w.loop() as loop:
        at = Generations(loop)
        fut = loop.create_future()

        def twice(_):
            at("twice")

        def once(_):
            at("once")

        for callback in (twice, once, twice, once, twice):
            fut.add_done_callback(callback)
        removed = [fut.remove_done_callback(twice), fut.remove_done_callback(twice), fut.remove_done_callback(print)]
        fut.set_result(None)
        drain(loop)
        return removed, at.log


@parity
def test_create_task_starts_in_order_among_callbacks(w):
    with w.loop() as loop:
        at = Generations(loop)

        async def child(name):
            at(name)

        async def parent():
            at("parent")
            loop.call_soon(at, "soon 1")
            a = loop.create_task(child("child a"))
            loop.call_soon(at, "soon 2")
            b = loop.create_task(child("child b"))
            at("created")
            await b
            at("b awaited")
            await a
            at("a awaited")

        loop.call_soon(at, "before")
        loop.create_task(parent())
        loop.call_soon(at, "after")
        drain(loop)
        return at.log


@parity
def test_sleep_zero_interleaves(w):
    with w.loop() as loop:
        at = Generations(loop)

        async def spinner(name, times):
            for number in range(times):
                at((name, number))
                await w.aio.sleep(0)
            at((name, "end"))

        for name, times in (("a", 3), ("b", 5), ("c", 1)):
            loop.create_task(spinner(name, times))

        def chain(left):
            at(("soon", left))
            if left:
                loop.call_soon(chain, left - 1)

        loop.call_soon(chain, 6)
        drain(loop)
        return at.log


@parity
@pytest.mark.parametrize("delay", [0, -1, 0.0, -0.0, False], ids=repr)
def test_a_sleep_that_need_not_wait_costs_one_turn(w, delay):
    with w.loop() as loop:
        at = Generations(loop)

        async def sleeper():
            at("start")
            at(await w.aio.sleep(delay, "result"))

        loop.create_task(sleeper())
        drain(loop)
        return at.log


@parity
def test_awaiting_what_is_done_does_not_suspend(w):
    with w.loop() as loop:
        at = Generations(loop)
        done = loop.create_future()
        done.set_result("future")
        failed = loop.create_future()
        failed.set_exception(KeyError("k"))

        async def coroutine():
            return "coroutine"

        async def body():
            at(await done)
            at(await coroutine())
            try:
                await failed
            except KeyError as exc:
                at(repr(exc))
            task = loop.create_task(coroutine())
            await w.aio.sleep(0)
            at(await task)

        loop.create_task(body())
        drain(loop)
        return at.log


@parity
def test_a_chain_of_tasks_unwinds_one_turn_each(w):
    with w.loop() as loop:
        at = Generations(loop)
        fut = loop.create_future()

        async def link(name, inner):
            result = await inner
            at(name)
            return result

        inner = fut
        for number in range(5):
            inner = loop.create_task(link(number, inner))
        inner.add_done_callback(lambda t: at(("last done", t.result())))
        drain(loop, 10)
        at("set")
        fut.set_result("r")
        drain(loop)
        return at.log


@parity
def test_many_tasks_waiting_for_one_task(w):
    with w.loop() as loop:
        at = Generations(loop)

        async def worker():
            await w.aio.sleep(0)
            return 7

        async def waiter(name, task):
            at((name, await task))

        task = loop.create_task(worker())
        for number in range(4):
            loop.create_task(waiter(number, task))
            task.add_done_callback(lambda _, n=number: at(("callback", n)))
        drain(loop)
        return at.log


# --- cancellation -------------------------------------------------------------------------------------------------


def cancel_scene(w, waits_for, *, drains=3):
    """Cancel a task which waits for something; give every observable step."""
    with w.loop() as loop:
        at = Generations(loop)

        async def victim():
            at("started")
            try:
                await waits_for(loop, at)
            except asyncio.CancelledError as exc:
                at(("cancelled", exc.args))
                raise
            finally:
                at("finally")

        task = loop.create_task(victim())
        task.add_done_callback(lambda t: at(("done", t.cancelled())))
        if drains:
            drain(loop, drains)
        at(("cancel", task.cancel("why")))
        loop.call_soon(at, "soon after cancel")
        drain(loop)
        at((task.done(), task.cancelled()))
        return at.log


@parity
def test_cancel_before_the_first_step(w):
    return cancel_scene(w, lambda loop, at: loop.create_future(), drains=0)


@parity
def test_cancel_while_waiting_for_a_future(w):
    return cancel_scene(w, lambda loop, at: loop.create_future())


@parity
def test_cancel_while_sleeping(w):
    return cancel_scene(w, lambda loop, at: w.aio.sleep(1000))


@parity
def test_cancel_between_two_turns(w):
    async def spin(loop, at):
        for number in range(10):
            at(number)
            await w.aio.sleep(0)

    return cancel_scene(w, spin)


@parity
def test_cancel_while_waiting_for_a_chain_of_tasks(w):
    async def deep(loop, at, depth):
        try:
            if depth:
                await loop.create_task(deep(loop, at, depth - 1))
            else:
                await loop.create_future()
        except asyncio.CancelledError as exc:
            at(("cancelled at depth", depth, exc.args))
            raise

    return cancel_scene(w, lambda loop, at: loop.create_task(deep(loop, at, 3)), drains=10)


@parity
def test_cancel_while_waiting_for_gather(w):
    async def child(loop, at, name):
        try:
            await loop.create_future()
        except asyncio.CancelledError as exc:
            at((name, exc.args))
            raise

    return cancel_scene(w, lambda loop, at: w.aio.gather(*(child(loop, at, n) for n in "abc")), drains=6)


@parity
def test_cancel_while_waiting_for_shield(w):
    async def child(loop, at):
        for _ in range(12):
            await w.aio.sleep(0)
        at("the shielded one went on")

    return cancel_scene(w, lambda loop, at: w.aio.shield(child(loop, at)), drains=4)


@parity
def test_cancel_in_the_turn_in_which_the_future_finishes(w):
    with w.loop() as loop:
        at = Generations(loop)

        async def victim(name, fut):
            try:
                at((name, await fut))
            except asyncio.CancelledError:
                at((name, "cancelled"))

        result_first, cancel_first = loop.create_future(), loop.create_future()
        one = loop.create_task(victim("result first", result_first))
        two = loop.create_task(victim("cancel first", cancel_first))
        drain(loop, 3)
        result_first.set_result("r")
        at(one.cancel())
        at(two.cancel())
        at(cancel_first.cancelled())
        drain(loop)
        return at.log


@parity
def test_cancelling_a_future_wakes_its_waiters(w):
    with w.loop() as loop:
        at = Generations(loop)
        fut = loop.create_future()

        async def waiter(name):
            try:
                await fut
            except asyncio.CancelledError as exc:
                at((name, exc.args))

        for name in "ab":
            loop.create_task(waiter(name))
        drain(loop, 3)
        fut.add_done_callback(lambda _: at("callback"))
        at(fut.cancel("enough"))
        at(fut.cancel("again"))
        drain(loop)
        return at.log


@parity
def test_a_task_that_ignores_cancellation(w):
    with w.loop() as loop:
        at = Generations(loop)

        async def stubborn():
            for _ in range(3):
                try:
                    await w.aio.sleep(1000)
                except asyncio.CancelledError:
                    at(("ignored", w.aio.current_task().cancelling()))
            return "end"

        task = loop.create_task(stubborn())
        task.add_done_callback(lambda t: at(t.result()))
        for _ in range(3):
            drain(loop, 4)
            at(task.cancel())
            at(task.cancel())
        drain(loop)
        return at.log


@parity
def test_a_task_cancels_itself(w):
    with w.loop() as loop:
        at = Generations(loop)

        async def suicidal():
            at(w.aio.current_task().cancel("me"))
            at("still here")
            try:
                await w.aio.sleep(0)
            except asyncio.CancelledError as exc:
                at(exc.args)
            await w.aio.sleep(0)
            w.aio.current_task().cancel("not seen")
            return "result"

        task = loop.create_task(suicidal())
        task.add_done_callback(lambda t: at(("cancelled", t.cancelled())))
        drain(loop)
        return at.log


@parity
def test_cancel_of_a_task_that_is_about_to_wake(w):
    """The wake-up is already queued; the cancellation must reach the coroutine in that same step."""
    with w.loop() as loop:
        at = Generations(loop)
        fut = loop.create_future()

        async def victim():
            try:
                await fut
            except asyncio.CancelledError:
                at("cancelled")
            at("goes on")
            await w.aio.sleep(0)
            at("end")

        task = loop.create_task(victim())
        drain(loop, 3)
        loop.call_soon(fut.set_result, None)
        loop.call_soon(task.cancel)
        drain(loop)
        return at.log


# --- what is built on tasks ---------------------------------------------------------------------------------------


def finishing(w, scene):
    """Run the coroutine function `scene(at, loop)` and give its log."""
    with w.loop() as loop:
        at = Generations(loop, rounds=60)
        task = loop.create_task(scene(at, loop))
        task.add_done_callback(lambda t: at(("scene done", t.exception() and repr(t.exception()))))
        drain(loop, 60)
        assert task.done()
        return at.log


async def spin(w, at, name, turns, *, fail=None):
    for _ in range(turns):
        await w.aio.sleep(0)
    at(name)
    if fail:
        raise fail
    return name


@parity
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_gather(w, return_exceptions):
    async def scene(at, loop):
        children = [spin(w, at, "a", 4), spin(w, at, "b", 0), spin(w, at, "c", 2, fail=KeyError("c"))]
        try:
            at(repr(await w.aio.gather(*children, return_exceptions=return_exceptions)))
        except KeyError as exc:
            at(repr(exc))
        at(await w.aio.gather())
        await w.aio.sleep(0)

    return finishing(w, scene)


@parity
@pytest.mark.parametrize("when", ["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"])
def test_wait(w, when):
    async def scene(at, loop):
        tasks = [
            loop.create_task(spin(w, at, "a", 3)),
            loop.create_task(spin(w, at, "b", 5, fail=KeyError("b"))),
            loop.create_task(spin(w, at, "c", 8)),
        ]
        done, pending = await w.aio.wait(tasks, return_when=getattr(w.aio, when))
        at([t in done for t in tasks])
        if pending:
            await w.aio.wait(pending)
        at(repr(tasks[1].exception()))

    return finishing(w, scene)


@parity
def test_as_completed(w):
    async def scene(at, loop):
        for nxt in w.aio.as_completed([spin(w, at, "a", 3), spin(w, at, "b", 1), spin(w, at, "c", 6)]):
            at(("got", await nxt))

    return sorted_by_turn(finishing(w, scene))


def sorted_by_turn(log):
    """as_completed starts a set of coroutines: within one turn the order is not defined, across turns it is."""
    return sorted(log, key=lambda entry: (entry[0], str(entry[1])))


@parity
def test_wait_for(w):
    async def scene(at, loop):
        at(await w.aio.wait_for(spin(w, at, "in time", 2), 1000))
        at(await w.aio.wait_for(spin(w, at, "no limit", 2), None))
        try:
            await w.aio.wait_for(loop.create_future(), 0)
        except TimeoutError:
            at("no time at all")
        done = loop.create_future()
        done.set_result("was done")
        at(await w.aio.wait_for(done, 0))

    return finishing(w, scene)


@parity
def test_task_group(w):
    async def scene(at, loop):
        async with w.aio.TaskGroup() as group:
            for name, turns in (("a", 3), ("b", 0), ("c", 1)):
                group.create_task(spin(w, at, name, turns))
            at("body ends")
        at("all joined")
        try:
            async with w.aio.TaskGroup() as group:
                group.create_task(spin(w, at, "x", 1, fail=KeyError("x")))
                victim = group.create_task(spin(w, at, "y", 30))
                try:
                    await w.aio.sleep(1000)
                except asyncio.CancelledError as exc:
                    at(("body cancelled", exc.args, w.aio.current_task().cancelling()))
                    raise
        except* KeyError as group_error:
            at(repr(group_error.exceptions))
        at((victim.cancelled(), w.aio.current_task().cancelling()))

    return finishing(w, scene)


@parity
def test_lock_hands_over_in_order(w):
    async def scene(at, loop):
        lock = w.aio.Lock()

        async def user(name):
            async with lock:
                at(("in", name))
                await w.aio.sleep(0)
            at(("out", name))

        await w.aio.gather(*(user(n) for n in range(4)))

    return finishing(w, scene)


@parity
def test_event_wakes_all_in_order(w):
    async def scene(at, loop):
        event = w.aio.Event()

        async def user(name):
            await event.wait()
            at(name)

        tasks = [loop.create_task(user(n)) for n in range(4)]
        await w.aio.sleep(0)
        event.set()
        at("set")
        await w.aio.gather(*tasks)
        at("joined")

    return finishing(w, scene)


@parity
def test_bounded_queue_between_producer_and_consumer(w):
    async def scene(at, loop):
        queue = w.aio.Queue(2)

        async def producer():
            for number in range(6):
                await queue.put(number)
                at(("put", number))

        async def consumer():
            for _ in range(6):
                at(("got", await queue.get()))

        await w.aio.gather(producer(), consumer())

    return finishing(w, scene)


@parity
def test_condition_and_semaphore(w):
    async def scene(at, loop):
        condition, semaphore = w.aio.Condition(), w.aio.Semaphore(2)

        async def waiter(name):
            async with semaphore:
                at(("permit", name))
                async with condition:
                    await condition.wait()
                    at(("notified", name))

        tasks = [loop.create_task(waiter(n)) for n in range(3)]
        for _ in range(6):
            await w.aio.sleep(0)
            await w.aio.sleep(0)
            async with condition:
                condition.notify(1)
                at("notify")
        await w.aio.gather(*tasks)

    return finishing(w, scene)


@parity
def test_timeout_that_expires_at_once(w):
    async def scene(at, loop):
        for when in (0, -1):
            try:
                async with w.aio.timeout(when) as scope:
                    at("body starts")
                    await w.aio.sleep(0)
                    at("one turn later")
                    await w.aio.sleep(1000)
            except TimeoutError as exc:
                at(("timeout", type(exc.__cause__).__name__, scope.expired()))

    log = finishing(w, scene)
    return [event for _, event in log]


@parity
def test_wrapping_a_concurrent_future(w):
    import concurrent.futures

    async def scene(at, loop):
        source = concurrent.futures.Future()
        wrapped = w.aio.wrap_future(source)
        wrapped.add_done_callback(lambda _: at("wrapped done"))
        source.set_result("value")
        at("set")
        at(await wrapped)
        cancelled = concurrent.futures.Future()
        wrapped = w.aio.wrap_future(cancelled)
        wrapped.cancel()
        await w.aio.sleep(0)
        at(("passed on", cancelled.cancelled()))

    return finishing(w, scene)


@parity
@since(3, 12)
def test_eager_tasks_start_before_create_task_returns(w):
    async def scene(at, loop):
        loop.set_task_factory(w.aio.eager_task_factory)

        async def child(name, fut=None):
            at(("start", name, w.aio.current_task().get_coro().__name__))
            if fut is not None:
                at((name, await fut))
            return name

        at("before")
        quick = loop.create_task(child("quick"), name="quick")
        at(("quick is done", quick.done(), quick.result()))
        fut = loop.create_future()
        slow = loop.create_task(child("slow", fut), name="slow")
        at(("slow is done", slow.done()))
        loop.call_soon(fut.set_result, "value")
        at(await slow)
        loop.set_task_factory(None)

    return finishing(w, scene)


# --- timers among callbacks ---------------------------------------------------------------------------------------


@parity
def test_timers_without_delay_run_after_what_was_queued(w):
    with w.loop() as loop:
        seen = []
        loop.call_later(0, seen.append, "later 0")
        loop.call_soon(seen.append, "soon")
        loop.call_later(-1, seen.append, "later -1")
        loop.call_soon(seen.append, "soon 2")
        drain(loop)
        return seen


@parity
def test_call_later_runs_by_deadline(w):
    with w.loop() as loop:
        seen = []
        now = loop.time()
        for offset in (0.003, 0.001, -5, 0.002, -6, 0):
            loop.call_at(now + offset, seen.append, offset)
        loop.call_at(now + 0.004, loop.stop)
        loop.run_forever()
        assert seen == sorted(seen)
        return seen


@parity
def test_timers_with_one_deadline_run_in_order(w):
    with w.loop() as loop:
        seen = []
        when = loop.time() + 0.001
        for name in "ab":
            loop.call_at(when, seen.append, name)
        loop.call_at(when + 0.001, loop.stop)
        loop.run_forever()
        return seen


@parity
def test_what_a_timer_queues_runs_after_the_timers_of_its_turn(w):
    with w.loop() as loop:
        seen = []

        def first():
            seen.append("timer 1")
            loop.call_soon(seen.append, "queued by timer 1")
            loop.call_later(0, seen.append, "timer started by timer 1")

        loop.call_later(-2, first)
        loop.call_later(-1, seen.append, "timer 2")
        drain(loop)
        return seen


@parity
def test_a_cancelled_timer_of_the_same_turn_does_not_run(w):
    with w.loop() as loop:
        seen = []
        victim = None

        def first():
            seen.append("first")
            victim.cancel()

        loop.call_later(-2, first)
        victim = loop.call_later(-1, seen.append, "victim")
        loop.call_later(-0.5, seen.append, "third")
        drain(loop)
        assert "victim" not in seen
        return seen, victim.cancelled()


@parity
def test_a_cancelled_handle_of_the_same_turn_does_not_run(w):
    with w.loop() as loop:
        seen = []
        loop.call_soon(lambda: victim.cancel())
        victim = loop.call_soon(seen.append, "victim")
        loop.call_soon(seen.append, "after")
        drain(loop)
        assert seen == ["after"]
        return seen, victim.cancelled()


@parity
def test_timers_and_readers_are_not_starved_by_callbacks(w):
    """However the loop batches its ready queue, an endless chain of callbacks leaves room for timers and sockets."""
    import socket

    with w.loop() as loop:
        left, right = socket.socketpair()
        with left, right:
            right.send(b"x")
            seen, calls = [], 0

            def chain():
                nonlocal calls
                calls += 1
                if calls > 5000 or len(seen) == 2:
                    loop.stop()
                else:
                    loop.call_soon(chain)

            loop.call_later(0, seen.append, "timer")
            loop.add_reader(left, lambda: (seen.append("reader"), loop.remove_reader(left)))
            loop.call_soon(chain)
            loop.run_forever()
            assert calls < 1000
            return sorted(seen)
