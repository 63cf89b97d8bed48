"""call_soon, call_later, call_at, call_soon_threadsafe and their handles: arguments, contexts, reprs, comparisons."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import math
import re
import signal
import sys
import threading
import weakref
from fractions import Fraction

import pytest
from worlds import asyncio_log, drain, in_thread, normal, parity, raised, since

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


def note(*args, **kwargs):
    """A callback with a place in a file, for reprs."""


def schedulers(loop):
    """Each way to schedule, as name -> callable that takes callback, args and context."""
    return {
        "call_soon": loop.call_soon,
        "call_soon_threadsafe": loop.call_soon_threadsafe,
        "call_later": functools.partial(loop.call_later, 0.0001),
        "call_at": lambda *a, **k: loop.call_at(loop.time(), *a, **k),
    }


WAYS = ["call_soon", "call_soon_threadsafe", "call_later", "call_at"]


@parity
@pytest.mark.parametrize("way", WAYS)
def test_arguments_reach_the_callback(w, way):
    with w.loop() as loop:
        seen = []
        schedule = schedulers(loop)[way]
        for count in range(12):
            schedule(lambda *args: seen.append(args), *range(count))
        schedule(seen.append, (None, Ellipsis))
        schedule(functools.partial(lambda *a, **k: seen.append((a, k)), 1, key="word"), 2)
        loop.call_later(0.003, loop.stop)
        loop.run_forever()
        return sorted(seen, key=str)


@parity
@pytest.mark.parametrize("way", WAYS)
def test_context_of_a_callback(w, way):
    with w.loop() as loop:
        seen = []
        schedule = schedulers(loop)[way]

        def look(name):
            seen.append((name, VARIABLE.get()))
            VARIABLE.set("set by " + name)

        def start():
            VARIABLE.set("at call")
            schedule(look, "copied")
            VARIABLE.set("after call")
            schedule(look, "given", context=contextvars.Context())
            schedule(look, "none", context=None)
            schedule(look, "same", context=shared)

        shared = contextvars.copy_context()
        shared.run(VARIABLE.set, "in shared")
        contextvars.Context().run(start)
        loop.call_later(0.005, loop.stop)
        loop.run_forever()
        return sorted(seen), VARIABLE.get(), shared[VARIABLE]


@parity
def test_callbacks_that_share_a_context_see_each_other(w):
    with w.loop() as loop:
        context, seen = contextvars.Context(), []

        def step(number):
            seen.append(VARIABLE.get())
            VARIABLE.set(number)

        for number in range(3):
            loop.call_soon(step, number, context=context)
            loop.call_soon(seen.append, "between")
        drain(loop)
        return seen, context[VARIABLE]


@parity
def test_a_context_that_is_already_entered(w):
    """The callback of an entered context cannot run: that is reported and the loop goes on."""
    errors = []
    with w.loop(errors=errors) as loop, asyncio_log() as log:
        context = contextvars.Context()
        loop.call_soon(note, context=context)
        loop.call_soon(loop.stop)
        context.run(loop.run_forever)
    assert len(errors) + len(log) == 1  # from 3.12 on the handler runs in that context too, and cannot either
    return errors, log


@parity
@pytest.mark.parametrize("context", [1, {}, "context"], ids=repr)
def test_a_context_of_a_wrong_type_is_refused(w, context):
    """Stock fails when the callback runs, or already at the call; either way nothing may break."""
    errors, seen = [], []
    with w.loop(errors=errors) as loop:
        try:
            loop.call_soon(note, context=context)
        except (TypeError, AttributeError):
            errors.append("refused")
        loop.call_soon(seen.append, "goes on")
        drain(loop, 3)
    assert len(errors) == 1
    return seen


@parity
@pytest.mark.parametrize("way", WAYS)
def test_keywords_that_do_not_exist(w, way):
    with w.loop() as loop:
        return raised(schedulers(loop)[way], note, nonsense=1)[0]


@parity
def test_missing_arguments(w):
    with w.loop() as loop:
        return [
            raised(call)[0] for call in (loop.call_soon, loop.call_soon_threadsafe, loop.call_later, loop.call_at)
        ] + [raised(loop.call_later, 1)[0], raised(loop.call_at, 1)[0]]


@parity
def test_none_is_no_delay_and_no_deadline(w):
    with w.loop() as loop:
        trace = [raised(loop.call_later, None, note), raised(loop.call_at, None, note)]
        assert trace == [("TypeError", "delay must not be None"), ("TypeError", "when cannot be None")]
        return trace


@parity
@pytest.mark.parametrize("value", ["1", [], object, b""], ids=repr)
def test_delays_of_a_wrong_type(w, value):
    with w.loop() as loop:
        return raised(loop.call_later, value, note)[0]


@parity
def test_numbers_that_are_not_floats(w):
    from decimal import Decimal
    from fractions import Fraction

    class Floatish:
        """What numpy.float32 is: no float, but a number."""

        def __init__(self, value):
            self.value = value

        def __float__(self):
            return self.value

        def __radd__(self, other):
            return other + self.value

    with w.loop() as loop:
        seen = []
        for delay in (True, 0, Fraction(1, 1000), Floatish(0.001)):
            loop.call_later(delay if delay is not True else False, seen.append, type(delay).__name__)
        seen.append(raised(loop.call_later, Decimal("0.001"), note)[0])
        loop.call_at(int(loop.time()) - 1, seen.append, "int deadline")
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        return sorted(seen)


@parity
@pytest.mark.parametrize("delay", [1e6, 1e10, 1e20, 1e300, math.inf], ids=repr)
def test_huge_delays(w, delay):
    """zuvloop #76: a deadline past any clock waits, is cancellable, and disturbs no other timer."""
    with w.loop() as loop:
        seen = []
        huge = loop.call_later(delay, seen.append, "huge")
        loop.call_at(delay, seen.append, "huge deadline")
        loop.call_later(0.002, seen.append, "small")
        loop.call_later(0.004, loop.stop)
        loop.run_forever()
        answer = huge.when() > loop.time() + 1e5, huge.cancelled()
        huge.cancel()
        return seen, answer, huge.cancelled()


@parity
def test_negative_infinity_is_due(w):
    with w.loop() as loop:
        seen = []
        loop.call_later(-math.inf, seen.append, "minus infinity")
        loop.call_at(-math.inf, seen.append, "minus infinity")
        drain(loop, 3)
        return seen


# --- handles ------------------------------------------------------------------------------------------------------


@parity
def test_kinds_of_handles(w):
    with w.loop() as loop:
        handles = {name: schedule(note) for name, schedule in schedulers(loop).items()}
        trace = {}
        for name, handle in handles.items():
            trace[name] = (
                isinstance(handle, asyncio.Handle),
                isinstance(handle, asyncio.TimerHandle),
                isinstance(handle, w.aio.Handle),
                isinstance(handle, w.aio.TimerHandle),
                hasattr(handle, "when"),
                handle.cancelled(),
                handle.cancel(),
                handle.cancelled(),
                handle.cancel(),
            )
        return trace


@parity
def test_a_cancelled_handle_lets_go(w):
    class Callback:
        def __call__(self, argument):
            raise AssertionError("ran")

    with w.loop() as loop:
        trace = []
        for schedule in schedulers(loop).values():
            callback, argument = Callback(), Callback()
            gone = weakref.ref(callback), weakref.ref(argument)
            handle = schedule(callback, argument)
            del callback, argument
            trace.append([ref() is None for ref in gone])
            handle.cancel()
            gc.collect()
            trace.append([ref() is None for ref in gone])
        drain(loop, 3)
        assert trace[1::2] == [[True, True]] * 4
        return trace


@parity
def test_a_handle_that_ran_lets_go_when_dropped(w):
    class Callback:
        def __call__(self):
            pass

    with w.loop() as loop:
        callback = Callback()
        gone = weakref.ref(callback)
        handle = loop.call_soon(callback)
        del callback
        drain(loop, 2)
        cancelled = handle.cancelled()
        del handle
        gc.collect()
        return gone() is None, cancelled


@pytest.mark.parametrize("way", WAYS)
@parity
def test_an_object_that_keeps_its_handle_is_collected(w, way):
    """A connection that keeps the handle of one of its methods is a cycle of the two once the handle has run."""

    class Owner:
        def __init__(self, loop):
            self.handle = schedulers(loop)[way](self.start, self)

        def start(self, this):
            ran.append(this is self)

    with w.loop() as loop:
        ran, gone = [], []
        for _ in range(3):
            gone.append(weakref.ref(Owner(loop)))
        loop.run_until_complete(w.aio.sleep(0.01))
        gc.collect()
        return ran, [ref() is None for ref in gone]


@parity
def test_a_signal_runs_its_handle_again(w):
    with w.loop() as loop:
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
        for _ in range(3):
            signal.raise_signal(signal.SIGUSR1)
            loop.run_until_complete(w.aio.sleep(0.01))
        assert loop.remove_signal_handler(signal.SIGUSR1)
        return seen


@parity
def test_cancelling_from_inside_and_after(w):
    with w.loop() as loop:
        seen = []

        def selfish():
            handle.cancel()
            seen.append("ran")

        handle = loop.call_soon(selfish)
        drain(loop, 2)
        timer = loop.call_later(0, seen.append, "timer")
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        before = timer.cancelled()
        timer.cancel()
        return seen, handle.cancelled(), before, timer.cancelled()


@parity
def test_a_handle_is_weakly_referenceable_and_has_its_context(w):
    with w.loop() as loop:
        context = contextvars.copy_context()
        handles = [loop.call_soon(note, context=context), loop.call_later(10, note, context=context)]
        trace = [weakref.ref(h)() is h for h in handles]
        if sys.version_info >= (3, 12):
            trace += [h.get_context() is context for h in handles]
            trace.append(isinstance(loop.call_soon(note).get_context(), contextvars.Context))
        return trace


@parity
def test_when(w):
    with w.loop() as loop:
        deadline = loop.time() + 5
        at, later = loop.call_at(deadline, note), loop.call_later(5, note)
        answer = at.when() == deadline, 4 < later.when() - loop.time() <= 5
        at.cancel()
        assert at.when() == deadline
        return answer, type(at.when()).__name__


@parity
@pytest.mark.parametrize("debug", [False, True])
def test_reprs_of_handles(w, debug):
    with w.loop(debug=debug) as loop:

        class Method:
            def method(self):
                pass

            def __repr__(self):
                return "<an instance>"

        def inner():
            pass

        callbacks = {
            "function": note,
            "with arguments": (note, 1, "two", [3]),
            "lambda": lambda: None,
            "local": inner,
            "method": Method().method,
            "builtin": print,
            "partial": functools.partial(note, 1, key="word"),
            "nested partial": functools.partial(functools.partial(note, 1), 2),
            "type": dict,
            "long argument": (note, "x" * 500),
        }
        texts = {}
        for name, callback in callbacks.items():
            callback, *args = callback if isinstance(callback, tuple) else (callback,)
            handle = loop.call_soon(callback, *args)
            texts[name] = normal(repr(handle))
            handle.cancel()
            texts[name + ", cancelled"] = normal(repr(handle))
            timer = loop.call_later(1000, callback, *args)
            texts[name + ", timer"] = re.sub(r"when=[\d.]+", "when=W", normal(repr(timer)))
            timer.cancel()
            texts[name + ", timer cancelled"] = re.sub(r"when=[\d.]+", "when=W", normal(repr(timer)))
        assert "note() at test_scheduling.py:" in texts["function"]
        assert ("created at test_scheduling.py:" in texts["function"]) is debug
        return texts


@parity
def test_order_equality_and_hash_of_timers(w):
    with w.loop() as loop:
        early, late = loop.call_at(1e9, note), loop.call_at(2e9, note)
        twin, other = loop.call_at(1e9, note), loop.call_at(1e9, print)
        arguments = loop.call_at(1e9, note, 1)
        soon = loop.call_soon(note)
        pairs = [(early, late), (late, early), (early, twin), (early, other), (early, arguments), (early, early)]
        trace = [(a < b, a <= b, a > b, a >= b, a == b, a != b) for a, b in pairs]
        trace.append((hash(early) == hash(twin), hash(early) == hash(early.when())))
        trace += [early == 1e9, early != 1e9, early == soon, soon == early, soon == soon]
        for compare in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__"):
            trace.append(getattr(early, compare)(3) is NotImplemented)
        trace.append(raised(lambda: early < 3)[0])
        trace.append(raised(lambda: early < soon)[0])
        trace.append(len({early, twin, late}))
        twin.cancel()
        trace.append(early == twin)
        again = loop.call_at(1e9, note)
        again.cancel()
        trace.append(twin == again)
        return trace


@parity
def test_handles_made_by_hand(w):
    """Libraries build Handle and TimerHandle themselves (tornado's tests, gevent bridges)."""
    with w.loop() as loop:
        seen = []
        handle = w.aio.Handle(lambda *a: seen.append((a, VARIABLE.get())), (1, 2), loop)
        handle._run()
        context = contextvars.Context()
        context.run(VARIABLE.set, "of the context")
        w.aio.Handle(lambda *a: seen.append((a, VARIABLE.get())), [3], loop, context=context)._run()
        timer = w.aio.TimerHandle(loop.time() - 1, seen.append, ("timer",), loop)
        timer._run()
        timers = [w.aio.TimerHandle(when, note, (), loop) for when in (3, 1, 2)]
        seen.append([t.when() for t in sorted(timers)])
        timers[0].cancel()
        seen.append(timers[0].cancelled())
        seen.append(raised(w.aio.Handle)[0])
        return seen


@parity
def test_subclasses_of_handles(w):
    with w.loop() as loop:

        class Mine(w.aio.Handle):
            def __init__(self, *args):
                super().__init__(*args)
                self.extra = "extra"

        class Timer(w.aio.TimerHandle):
            pass

        seen = []
        handle = Mine(seen.append, ("ran",), loop)
        handle._run()
        timer = Timer(5.0, note, (), loop)
        return seen, handle.extra, isinstance(handle, w.aio.Handle), timer.when(), normal(repr(timer))


@parity
def test_an_exception_in_a_handle_names_it(w):
    contexts = []
    with w.loop() as loop:

        def fail(*args):
            raise ZeroDivisionError("from the callback")

        loop.set_exception_handler(lambda _, context: contexts.append(context))
        handle = loop.call_soon(fail, 1)
        timer = loop.call_later(0, fail, 2)
        loop.call_later(0.002, loop.stop)
        loop.run_forever()
        trace = [
            (re.sub(r"when=[\d.]+", "when=W", normal(c["message"])), repr(c["exception"]), sorted(c)) for c in contexts
        ]
        assert [c["handle"] for c in contexts] == [handle, timer]
        assert contexts[0]["handle"] is handle
    return trace


# --- other threads ------------------------------------------------------------------------------------------------


@parity
def test_call_soon_threadsafe_wakes_a_sleeping_loop(w):
    with w.loop() as loop:
        seen = []

        def other():
            handle = loop.call_soon_threadsafe(seen.append, threading.current_thread() is threading.main_thread())
            loop.call_soon_threadsafe(loop.stop)
            return isinstance(handle, asyncio.Handle), handle.cancelled()

        answers = []
        thread = threading.Timer(0.03, lambda: answers.append(other()))
        thread.start()
        loop.run_forever()
        thread.join()
        return seen, answers


@parity
def test_call_soon_threadsafe_keeps_each_threads_order(w):
    with w.loop() as loop:
        threads, each, seen = 4, 2000, []

        def producer(name):
            for number in range(each):
                loop.call_soon_threadsafe(seen.append, (name, number))

        workers = [threading.Thread(target=producer, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()

        def finished():
            if len(seen) == threads * each:
                loop.stop()
            else:
                loop.call_later(0.001, finished)

        finished()
        loop.run_forever()
        for worker in workers:
            worker.join()
        return [[number for name, number in seen if name == wanted] == list(range(each)) for wanted in range(threads)]


@parity
def test_a_threadsafe_handle_can_be_cancelled(w):
    with w.loop() as loop:
        seen = []
        handle = loop.call_soon_threadsafe(seen.append, "cancelled")
        handle.cancel()
        loop.call_soon_threadsafe(seen.append, "kept")
        drain(loop, 3)
        return seen, handle.cancelled()


@parity
def test_before_the_run_other_threads_may_queue(w):
    with w.loop() as loop:
        seen = []
        in_thread(lambda: loop.call_soon_threadsafe(seen.append, "from a thread"))
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        return seen


@parity
def test_run_coroutine_threadsafe(w):
    with w.loop() as loop:

        async def work(value):
            await w.aio.sleep(0.001)
            if isinstance(value, Exception):
                raise value
            return value, VARIABLE.get()

        def ask():
            VARIABLE.set("of the thread")
            first = w.aio.run_coroutine_threadsafe(work("value"), loop)
            second = w.aio.run_coroutine_threadsafe(work(KeyError("k")), loop)
            third = w.aio.run_coroutine_threadsafe(w.aio.sleep(1000), loop)
            answers = [first.result(10)[0], repr(second.exception(10)), third.cancel(), third.cancelled()]
            answers.append(raised(w.aio.run_coroutine_threadsafe, 1, loop))
            return answers

        async def main():
            answers = await w.aio.to_thread(ask)
            await w.aio.sleep(0)
            await w.aio.sleep(0)
            return answers

        return loop.run_until_complete(main())


@parity
@since(3, 12)
def test_call_soon_threadsafe_tells_a_closed_loop(w):
    loop = w.new_event_loop()
    loop.close()
    return in_thread(lambda: loop.call_soon_threadsafe(note))


@parity
def test_a_subclass_that_overrides_call_at_sees_every_timer(w):
    """call_later() leaves the timer to call_at(), and so does what calls it: a loop that logs or limits timers."""
    probe = w.new_event_loop()
    probe.close()
    seen = []

    class Mine(type(probe)):
        def call_at(self, when, callback, *args, context=None):
            seen.append((round(when - self.time(), 1), callback is note and args, context is not None))
            return super().call_at(when, callback, *args, context=context)

    async def main():
        loop.call_later(0.5, note).cancel()
        loop.call_later(delay=1, callback=note).cancel()
        loop.call_later(2, note, 1, "two", context=contextvars.copy_context()).cancel()
        timer = loop.call_later(Fraction(5, 2), note)
        timer.cancel()
        await w.aio.sleep(0.001)
        async with w.aio.timeout(3):
            pass
        await w.aio.wait_for(w.aio.sleep(0), 4)
        refused = [raised(loop.call_later, None, note), raised(loop.call_later, "1", note), raised(loop.call_later, 1)]
        refused.append(raised(loop.call_later, 1, note, other=1))
        return isinstance(timer, asyncio.TimerHandle), refused

    loop = Mine()
    with contextlib.closing(loop):
        return loop.run_until_complete(main()), seen


@parity
def test_time_is_the_monotonic_clock(w):
    import time

    with w.loop() as loop:
        before = time.monotonic()
        reading = loop.time()
        after = time.monotonic()
        assert before <= reading <= after
        return type(reading).__name__
