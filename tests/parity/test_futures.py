"""Future: states, results, exceptions, cancellation, callbacks, reprs, iterators, words of refusals."""

import asyncio
import contextvars
import sys
import warnings

import pytest
from future_makers import MAKERS, make, note
from worlds import araised, drain, error, normal, outcome, parity, raised

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_states(w, how):
    with w.loop() as loop:
        pending, done, failed, cancelled = (make(w, loop, how) for _ in range(4))
        done.set_result("value")
        failed.set_exception(KeyError("k"))
        cancelled.cancel("why")
        trace = []
        for fut in (pending, done, failed, cancelled):
            trace.append(
                {
                    "done": fut.done(),
                    "cancelled": fut.cancelled(),
                    "result": outcome(fut.result),
                    "exception": outcome(lambda fut=fut: repr(fut.exception())),
                    "loop": fut.get_loop() is loop,
                    "state": fut._state,
                    "blocking": fut._asyncio_future_blocking,
                    "callbacks": fut._callbacks,
                    "log": fut._log_traceback,
                    "again": outcome(fut.result),
                }
            )
        assert trace[0]["result"] == ("InvalidStateError", "Result is not set.")
        assert trace[0]["exception"] == ("InvalidStateError", "Exception is not set.")
        assert trace[3]["result"] == ("CancelledError", "why")
        return trace


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_finishing_twice(w, how):
    with w.loop() as loop:
        trace = []
        finishers = [
            lambda f: f.set_result(1),
            lambda f: f.set_exception(ValueError("v")),
            lambda f: f.cancel(),
        ]
        for first in finishers:
            for second in finishers:
                fut = make(w, loop, how)
                first(fut)
                trace.append((outcome(second, fut), fut.done(), fut.cancelled()))
                outcome(fut.exception)
        assert ("InvalidStateError", "invalid state") in [entry[0] for entry in trace]
        return trace


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_set_exception_takes_classes_and_refuses_the_rest(w, how):
    with w.loop() as loop:
        trace = []
        for value in (KeyError, KeyError("x"), BaseException("b"), KeyboardInterrupt(), asyncio.CancelledError("c")):
            fut = make(w, loop, how)
            trace.append(
                (outcome(fut.set_exception, value), outcome(lambda f=fut: repr(f.exception())), fut.cancelled())
            )
            trace.append(raised(fut.result))
        for value in (1, None, "text", object, type, [KeyError]):
            fut = make(w, loop, how)
            trace.append((raised(fut.set_exception, value), fut.done()))
        return trace


@parity
@pytest.mark.parametrize("how", MAKERS)
@pytest.mark.parametrize("value", [StopIteration, StopIteration("value")], ids=["class", "instance"])
def test_stop_iteration_cannot_be_set(w, how, value):
    """Older versions refuse with a TypeError; newer ones wrap it in a RuntimeError."""
    with w.loop() as loop:
        fut = make(w, loop, how)
        trace = [outcome(fut.set_exception, value), fut.done()]
        if fut.done():
            exc = fut.exception()
            trace += [error(exc), repr(exc.__cause__), repr(exc.__context__)]
        return trace


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_wrong_numbers_of_arguments(w, how):
    with w.loop() as loop:
        fut = make(w, loop, how)
        return [
            raised(call)[0]
            for call in (
                fut.set_result,
                lambda: fut.set_result(1, 2),
                fut.set_exception,
                fut.add_done_callback,
                lambda: fut.add_done_callback(note, contextvars.copy_context()),
                lambda: fut.add_done_callback(note, nonsense=1),
                lambda: fut.add_done_callback(fn=note),
                fut.remove_done_callback,
                lambda: fut.cancel(1, 2),
                lambda: fut.cancel(nonsense=1),
                lambda: fut.result(1),
                lambda: w.aio.Future(1),
                lambda: w.aio.Future(nonsense=1),
            )
        ]


@parity
@pytest.mark.parametrize("how", MAKERS)
@pytest.mark.parametrize("message", [(), (None,), ("text",), (1,), (ValueError("x"),), ("",)], ids=str)
def test_cancel_messages(w, how, message):
    with w.loop() as loop:
        fut = make(w, loop, how)
        trace = [fut.cancel(*message), fut.cancel("late")]
        for _ in range(2):
            try:
                fut.result()
            except asyncio.CancelledError as exc:
                trace.append((repr(exc.args), type(exc.__context__).__name__))
        try:
            fut.exception()
        except asyncio.CancelledError as exc:
            trace.append(repr(exc.args))
        by_name = make(w, loop, how)
        by_name.cancel(msg="by name")
        trace.append(raised(by_name.result))
        return trace


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_the_exception_is_one_object_and_its_traceback_does_not_grow(w, how):
    with w.loop() as loop:
        fut = make(w, loop, how)
        exc = KeyError("once")
        fut.set_exception(exc)

        def depth():
            count, tb = 0, exc.__traceback__
            while tb is not None:
                count, tb = count + 1, tb.tb_next
            return count

        depths = []
        for _ in range(4):
            with pytest.raises(KeyError) as caught:
                fut.result()
            assert caught.value is exc
            depths.append(depth())
        assert fut.exception() is exc
        return len(set(depths)) == 1


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_callbacks_get_the_future_and_their_context(w, how):
    with w.loop() as loop:
        seen = []
        fut = make(w, loop, how)

        def callback(f):
            seen.append((f is fut, VARIABLE.get()))
            VARIABLE.set("set by a callback")

        def register():
            VARIABLE.set("at registration")
            fut.add_done_callback(callback)
            fut.add_done_callback(callback, context=contextvars.Context())
            VARIABLE.set("later")

        contextvars.Context().run(register)
        trace = [[(c[0] is callback, isinstance(c[1], contextvars.Context)) for c in fut._callbacks]]
        fut.set_result(1)
        trace.append(fut._callbacks)
        seen.append("not called at once")
        drain(loop, 3)
        contextvars.Context().run(register)
        drain(loop, 3)
        assert seen[0] == "not called at once"
        return trace, seen


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_a_callback_without_a_context_gets_that_of_whoever_completes_the_future(w, how):
    with w.loop() as loop:
        seen = []
        fut = make(w, loop, how)

        def register():
            VARIABLE.set("at registration")
            fut.add_done_callback(lambda f: seen.append(VARIABLE.get()), context=None)
            fut.add_done_callback(lambda f: seen.append(VARIABLE.get()))
            seen.append([context is None for _, context in fut._callbacks])

        def complete():
            VARIABLE.set("at completion")
            fut.set_result(1)

        for call in (register, complete):
            contextvars.Context().run(call)
        drain(loop, 3)

        def late():
            VARIABLE.set("when it is done")
            fut.add_done_callback(lambda f: seen.append(VARIABLE.get()), context=None)

        contextvars.Context().run(late)
        drain(loop, 3)
        return seen


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_callbacks_of_odd_types(w, how):
    errors = []
    with w.loop(errors=errors) as loop:
        fut = make(w, loop, how)
        seen = []

        class Equal:
            """Equal to each other: removal compares, it does not look for the same object."""

            def __call__(self, fut):
                seen.append("equal")

            def __eq__(self, other):
                return isinstance(other, Equal)

            __hash__ = None

        fut.add_done_callback(Equal())
        fut.add_done_callback(Equal())
        fut.add_done_callback(seen.append)
        trace = [fut.remove_done_callback(Equal()), fut.remove_done_callback(Equal())]
        fut.add_done_callback(lambda: None)
        fut.set_result(1)
        drain(loop, 3)
        return trace, seen == [fut], [(m.split("(")[0].split(".")[0], exc[0], keys) for m, exc, keys in errors]


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_comparison_during_removal_that_raises_or_changes_the_list(w, how):
    with w.loop() as loop:
        fut = make(w, loop, how)

        class Raises:
            def __call__(self, fut):
                pass

            def __eq__(self, other):
                raise ZeroDivisionError

            __hash__ = None

        class Clears:
            def __call__(self, fut):
                pass

            def __eq__(self, other):
                fut.remove_done_callback(note)
                return False

            __hash__ = None

        fut.add_done_callback(Raises())
        fut.add_done_callback(note)
        trace = [raised(fut.remove_done_callback, str)[0]]
        other = make(w, loop, how)
        fut = other
        other.add_done_callback(Clears())
        for _ in range(4):
            other.add_done_callback(note)
        other.add_done_callback(Clears())
        outcome(other.remove_done_callback, str)
        other.set_result(1)
        drain(loop, 3)
        return trace


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_an_exception_in_a_done_callback_is_reported(w, how):
    errors = []
    with w.loop(errors=errors) as loop:
        fut = make(w, loop, how)
        seen = []

        def fail(fut):
            raise ZeroDivisionError("from a callback")

        fut.add_done_callback(fail)
        fut.add_done_callback(lambda _: seen.append("the next one ran"))
        fut.set_result(1)
        drain(loop, 3)
    assert len(errors) == 1
    return seen, [(message.split(".<locals>")[-1], exc, keys) for message, exc, keys in errors]


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_reprs(w, how):
    class Nasty:
        def __repr__(self):
            return "<" + "long " * 200 + ">"

    with w.loop() as loop:
        texts = []

        def show(fut):
            texts.append(normal(repr(fut)))

        fut = make(w, loop, how)
        show(fut)
        for callback in (note, print, lambda f: None, note):
            fut.add_done_callback(callback)
            show(fut)
        fut.set_result(1)
        show(fut)
        for value in (None, "text", Nasty(), [1, 2], fut):
            fut = make(w, loop, how)
            fut.set_result(value)
            show(fut)
        fut = make(w, loop, how)
        fut.set_exception(KeyError("k"))
        show(fut)
        fut.exception()
        fut = make(w, loop, how)
        fut.cancel()
        show(fut)
        itself = make(w, loop, how)
        itself.set_result(itself)
        show(itself)
        itself.remove_done_callback(note)
        assert texts[0] == "<Future pending>"
        assert texts[1].startswith("<Future pending cb=[note() at ")
        return texts


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_repr_in_debug_mode(w, how):
    with w.loop(debug=True) as loop:
        fut = make(w, loop, how)
        frames = [(frame.name, frame.line) for frame in fut._source_traceback]
        texts = [normal(repr(fut))]
        fut.set_result(1)
        texts.append(normal(repr(fut)))
        assert all("created at" in text for text in texts)
        if how == "create_future":  # stock's own create_future is a frame too, a native one is not
            frames = [frame for frame in frames if frame[0] != "create_future"]
            texts.clear()
        return texts, frames[-2:]


@parity
def test_repr_of_a_future_that_a_task_waits_for(w):
    with w.loop() as loop:
        fut = loop.create_future()

        async def waiter():
            await fut

        task = loop.create_task(waiter(), name="waiter")
        drain(loop, 2)
        texts = [normal(repr(fut)), normal(repr(task))]
        fut.set_result(None)
        drain(loop, 2)
        texts += [normal(repr(fut)), normal(repr(task))]
        assert "wait_for=<Future pending cb=[Task.task_wakeup()]>" in texts[1]
        return texts


# --- awaiting by hand ---------------------------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_driving_a_coroutine_by_hand(w, how):
    """What a future yields, and what it wants to see done before it is resumed."""
    with w.loop() as loop:
        fut = make(w, loop, how)

        async def body():
            return await fut

        coroutine = body()
        yielded = coroutine.send(None)
        trace = [yielded is fut, fut._asyncio_future_blocking]
        trace.append(raised(coroutine.send, None))
        assert trace[-1] == ("RuntimeError", "await wasn't used with future")
        trace.append(fut._asyncio_future_blocking)
        fut._asyncio_future_blocking = False

        coroutine = body()
        coroutine.send(None)
        fut._asyncio_future_blocking = False
        fut.set_result("result")
        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)
        trace.append(stop.value.value)
        with pytest.raises(StopIteration) as stop:
            body().send(None)
        trace.append(stop.value.value)
        return trace


@parity
@pytest.mark.parametrize("how", MAKERS)
@pytest.mark.parametrize("value", [None, 1, (1, 2), (), StopIteration(5), KeyError("k"), [StopIteration]], ids=repr)
def test_results_that_look_like_something_else(w, how, value):
    """A tuple or an exception as a result must arrive as it is (StopIteration's constructor would unpack it)."""
    with w.loop() as loop:
        ready, late = make(w, loop, how), make(w, loop, how)
        ready.set_result(value)
        loop.call_soon(late.set_result, value)

        async def main():
            return (await ready) is value, (await late) is value, ready.result() is value

        trace = loop.run_until_complete(main())
        iterator = ready.__await__()
        with pytest.raises(StopIteration) as stop:
            next(iterator)
        assert trace == (True, True, True)
        return stop.value.value is value


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_throwing_into_a_waiting_coroutine(w, how):
    with w.loop() as loop:
        fut = make(w, loop, how)
        seen = []

        async def body():
            try:
                await fut
            except KeyError as exc:
                seen.append(repr(exc))
                return "caught"
            finally:
                seen.append("finally")

        coroutine = body()
        coroutine.send(None)
        with pytest.raises(StopIteration) as stop:
            coroutine.throw(KeyError("thrown"))
        seen.append(stop.value.value)
        fut._asyncio_future_blocking = False
        coroutine = body()
        coroutine.send(None)
        coroutine.close()
        fut._asyncio_future_blocking = False
        coroutine = body()
        coroutine.send(None)
        seen.append(raised(coroutine.throw, ValueError("out")))
        fut._asyncio_future_blocking = False
        seen.append(fut.done())
        return seen


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_the_iterator_of_a_future(w, how):
    with w.loop() as loop:
        fut = make(w, loop, how)
        trace = []
        for get in (lambda: fut.__await__(), lambda: iter(fut)):
            iterator = get()
            trace.append(iter(iterator) is iterator)
            trace.append(next(iterator) is fut)
            fut._asyncio_future_blocking = False
            trace.append(raised(iterator.throw, KeyError("k")))
            trace.append(raised(get().throw, KeyError, KeyError("pair"), None) if sys.version_info < (3, 12) else None)
            iterator = get()
            trace.append(iterator.send(None) is fut)
            fut._asyncio_future_blocking = False
            trace.append(iterator.close())
        one, two = fut.__await__(), fut.__await__()
        trace.append(next(one) is fut)
        fut._asyncio_future_blocking = False
        trace.append(next(two) is fut)
        fut._asyncio_future_blocking = False
        fut.set_result("r")
        for iterator in (one, two):
            with pytest.raises(StopIteration) as stop:
                iterator.send(None)
            trace.append(stop.value.value)
        return trace


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_the_iterator_refuses_junk(w, how):
    with w.loop() as loop:
        fut = make(w, loop, how)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            trace = [
                raised(fut.__await__().throw, 1)[0],
                raised(fut.__await__().throw, KeyError, "x", 1)[0],
                raised(fut.__await__().throw)[0],
                raised(fut.__await__().throw, KeyError("x"), KeyError("y"), None)[0],
            ]
        return trace


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_a_failed_future_raises_at_every_await(w, how):
    with w.loop() as loop:
        fut = make(w, loop, how)

        async def user(name):
            return name, await araised(fut)

        async def main():
            users = [loop.create_task(user(n)) for n in "ab"]
            await w.aio.sleep(0)
            fut.set_exception(KeyError("shared"))
            return [await user for user in users], await user("late")

        return loop.run_until_complete(main())


@parity
@pytest.mark.parametrize("how", MAKERS)
def test_blocking_flag_takes_only_truth_values(w, how):
    with w.loop() as loop:
        fut = make(w, loop, how)
        trace = []
        for value in (True, False, 1, [], "x"):
            trace.append((outcome(setattr, fut, "_asyncio_future_blocking", value), fut._asyncio_future_blocking))
        trace.append(raised(delattr, fut, "_asyncio_future_blocking")[0])
        trace.append(raised(setattr, fut, "_log_traceback", True))
        trace.append(outcome(setattr, fut, "_log_traceback", False))
        return trace
