"""Future: states, results, exceptions, cancellation, callbacks, reprs, iterators, subclasses, words of refusals.

`make` gives a Future of the world: with our loop under stock's names that is the loop's own create_future().
"""

import asyncio
import contextvars
import copy
import gc
import pickle
import sys
import types
import warnings
import weakref

import pytest
from worlds import araised, drain, error, in_thread, normal, outcome, parity, raised, since

VARIABLE = contextvars.ContextVar("VARIABLE", default="default")
MAKERS = ["create_future", "class"]


def make(w, loop, how="create_future"):
    return loop.create_future() if how == "create_future" else w.aio.Future(loop=loop)


def note(fut):
    """A done callback with a place in a file, for reprs."""


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


# --- the class ----------------------------------------------------------------------------------------------------


@parity
def test_the_class(w):
    future = w.aio.Future
    with w.loop() as loop:
        fut = loop.create_future()
        alias = future[int]
        return [
            isinstance(fut, asyncio.Future),
            isinstance(fut, future),
            w.aio.isfuture(fut),
            asyncio.isfuture(fut),
            isinstance(fut, asyncio.Task),
            isinstance(future(loop=loop), asyncio.Future),
            asyncio.isfuture(future(loop=loop)),
            isinstance(alias, types.GenericAlias),
            alias.__args__,
            future.__name__,
            hasattr(fut, "__await__"),
            hasattr(fut, "__iter__"),
            hash(fut) == hash(fut),
            fut == fut,
            fut != loop.create_future(),
            bool(fut),
            outcome(setattr, fut, "attribute", 1),  # libraries hang their own fields on futures
            outcome(getattr, fut, "attribute"),
            outcome(lambda: vars(fut)),
            raised(pickle.dumps, fut)[0],
            raised(copy.deepcopy, fut)[0],
        ]


@parity
def test_public_names_of_a_future(w):
    with w.loop() as loop:
        names = {name for name in dir(loop.create_future()) if not name.startswith("_")}
        assert {"add_done_callback", "cancel", "get_loop"} <= names
        return sorted(names)


@parity
def test_a_future_in_a_thread_without_a_loop(w):
    return in_thread(lambda: w.aio.Future())[0]


@parity
def test_the_running_loop_is_the_default(w):
    async def main():
        return w.aio.Future().get_loop() is w.aio.get_running_loop()

    return w.run(main)


@parity
@pytest.mark.parametrize("loop", [1, "loop", object()], ids=["1", "loop", "object"])
def test_a_loop_of_a_wrong_type(w, loop):
    return raised(w.aio.Future, loop=loop)[0]


@parity
def test_a_subclass_with_fields_and_overridden_methods(w):
    seen = []

    class Mine(w.aio.Future):
        slot = "class attribute"

        def __init__(self, *, loop, tag):
            super().__init__(loop=loop)
            self.tag = tag

        def add_done_callback(self, fn, *, context=None):
            seen.append(("add_done_callback", context is not None))
            super().add_done_callback(fn, context=context)

        def cancel(self, msg=None):
            seen.append(("cancel", msg))
            return super().cancel(msg=msg)

        def result(self):
            seen.append("result")
            return (self.tag, super().result())

        def set_result(self, value):
            seen.append("set_result")
            super().set_result(value)

    with w.loop() as loop:

        async def waiter(fut):
            return await fut

        fut = Mine(loop=loop, tag="t")
        task = loop.create_task(waiter(fut))
        drain(loop, 2)
        seen.append(normal(repr(fut)))
        fut.set_result("value")
        drain(loop, 3)
        seen.append(task.result())
        victim = Mine(loop=loop, tag="victim")
        task = loop.create_task(waiter(victim))
        drain(loop, 2)
        task.cancel("why")
        drain(loop, 4)
        seen.append((task.cancelled(), victim.cancelled()))
        done = Mine(loop=loop, tag="done")
        done.set_result("d")
        seen.append(loop.run_until_complete(waiter(done)))
        seen.append((Mine.slot, isinstance(done, w.aio.Future), asyncio.isfuture(done), w.aio.isfuture(done)))
        assert ("cancel", "why") in seen
        return seen


@parity
def test_instances_of_a_subclass_are_futures_by_every_name(w):
    class Mine(w.aio.Future):
        pass

    with w.loop() as loop:
        fut = Mine(loop=loop)
        assert isinstance(fut, asyncio.Future) or w.name == "native"  # The C class itself: docs/compat.md.
        return isinstance(fut, Mine), isinstance(fut, w.aio.Future), asyncio.isfuture(fut)


@parity
def test_a_subclass_that_overrides_await(w):
    class Mine(w.aio.Future):
        def __await__(self):
            yield from w.aio.sleep(0).__await__()
            return "overridden"

        __iter__ = __await__

    with w.loop() as loop:

        async def main():
            return await Mine(loop=loop)

        return loop.run_until_complete(main())


@parity
def test_a_subclass_without_super_init(w):
    """A half-made future answers with an error, never with a crash."""

    class Mine(w.aio.Future):
        def __init__(self):
            pass

    fut = Mine()
    calls = [
        fut.done,
        fut.cancelled,
        fut.cancel,
        fut.result,
        fut.exception,
        lambda: fut.set_result(1),
        lambda: fut.set_exception(KeyError()),
        lambda: fut.add_done_callback(print),
        fut.get_loop,
        lambda: next(iter(fut)),
    ]
    answers = [outcome(call) for call in calls]
    assert outcome(repr, fut)
    return [type(answer) in (bool, tuple, type(None)) for answer in answers]


@parity
def test_initialising_twice(w):
    with w.loop() as loop:
        fut = w.aio.Future(loop=loop)
        fut.add_done_callback(note)
        fut.set_result(1)
        outcome(fut.__init__, loop=loop)
        return fut.done(), outcome(fut.result)


@parity
def test_initialising_twice_through_a_subclass(w):
    class Named(w.aio.Future):
        pass

    with w.loop() as loop:
        fut = Named(loop=loop)
        return outcome(fut.__init__, loop=loop), fut.get_loop() is loop


@parity
def test_initialising_again_after_a_failed_attempt(w):
    with w.loop() as loop:
        fut = w.aio.Future.__new__(w.aio.Future)
        return outcome(fut.__init__, 1), outcome(fut.__init__, loop=loop), fut.get_loop() is loop


@parity
@pytest.mark.parametrize("name", ["_log_traceback", "_asyncio_future_blocking", "_cancel_message"])
def test_deleting_an_attribute(w, name):
    class Named(w.aio.Future):
        pass

    with w.loop() as loop:
        fut = Named(loop=loop)
        fut.cancel("reason")
        return outcome(delattr, fut, name), fut._cancel_message


# --- lifetime -----------------------------------------------------------------------------------------------------


@parity
def test_weak_references_and_cycles(w):
    with w.loop() as loop:
        trace = []
        fut = make(w, loop)
        ref = weakref.ref(fut)
        del fut
        trace.append(ref() is None)

        class Box:
            pass

        scenes = {
            "result is the future": lambda f: f.set_result(f),
            "exception holds the future": lambda f: (f.set_exception(box_error(f)), f.exception()),
            "callback holds the future": lambda f: f.add_done_callback(lambda _, f=f: None),
            "attribute of the loop": lambda f: None,
        }

        def box_error(f):
            exc = KeyError("holds it")
            exc.fut = f
            return exc

        for name, tie in scenes.items():
            fut = make(w, loop)
            tie(fut)
            ref, box = weakref.ref(fut), Box()
            box.ref = ref
            del fut
            gc.collect()
            trace.append((name, ref() is None))
        assert all(entry if isinstance(entry, bool) else entry[1] for entry in trace)
        return trace


@parity
def test_a_subclass_instance_in_a_cycle_through_its_dict(w):
    class Mine(w.aio.Future):
        pass

    with w.loop() as loop:
        fut = Mine(loop=loop)
        fut.me = fut
        ref = weakref.ref(fut)
        del fut
        gc.collect()
        return ref() is None


@parity
def test_never_retrieved(w):
    """Only an exception nobody looked at is reported, when the future goes away."""
    contexts = []
    with w.loop() as loop:
        loop.set_exception_handler(lambda _, context: contexts.append(context))

        def scene(look):
            fut = loop.create_future()
            fut.set_exception(KeyError("lost"))
            look(fut)

        scene(lambda f: None)
        scene(lambda f: f.exception())
        scene(lambda f: raised(f.result))
        scene(lambda f: setattr(f, "_log_traceback", False))
        scene(lambda f: f.add_done_callback(lambda _: None))
        drain(loop, 3)
        gc.collect()
        trace = [(c["message"], repr(c["exception"]), sorted(c), normal(repr(c["future"]))) for c in contexts]
        contexts.clear()
        gc.collect()
    assert trace[0][0] == "Future exception was never retrieved"
    assert len(trace) == 2
    return trace


@parity
def test_never_retrieved_in_debug_mode_tells_where_it_was_created(w):
    contexts = []
    with w.loop(debug=True) as loop:
        loop.set_exception_handler(lambda _, context: contexts.append(context))
        w.aio.Future(loop=loop).set_exception(KeyError("lost"))
        gc.collect()
        trace = [(sorted(c), c["source_traceback"][-1].name, c["source_traceback"][-1].line) for c in contexts]
        contexts.clear()
    assert trace[0][1].startswith("test_never_retrieved_in_debug")
    return trace


@parity
def test_a_future_that_survives_its_loop(w):
    with w.loop() as loop:
        fut = loop.create_future()
        pending = loop.create_future()
    fut.set_result("still works")
    return fut.result(), normal(repr(fut)), pending.done(), pending.cancel(), normal(repr(pending))


@parity
def test_other_loops_may_be_given(w):
    """A world's Future class with stock's own loop: callbacks go through that loop's call_soon."""
    loop = asyncio.SelectorEventLoop()
    try:
        fut = w.aio.Future(loop=loop)
        seen = []
        fut.add_done_callback(lambda f: seen.append(f.result()))

        async def setter():
            fut.set_result("value")
            return await fut

        return loop.run_until_complete(setter()), fut.get_loop() is loop, seen
    finally:
        loop.close()


@parity
def test_a_loop_subclass_sees_what_futures_and_tasks_schedule(w):
    """call_soon overridden in Python: done callbacks go through it on stock asyncio, with a context."""
    probe = w.new_event_loop()
    probe.close()
    seen = []

    class Mine(type(probe)):
        def call_soon(self, callback, *args, context=None):
            seen.append((getattr(callback, "__name__", "other"), len(args), context is not None))
            return super().call_soon(callback, *args, context=context)

    loop = Mine()
    try:
        fut = loop.create_future()
        fut.add_done_callback(note)
        seen.clear()
        fut.set_result(1)
        return list(seen)
    finally:
        loop.close()


@parity
@pytest.mark.parametrize("how", ["result", "exception", "await"])
@pytest.mark.parametrize("ended", ["cancelled", "failed"])
def test_the_context_of_what_is_raised_is_what_is_handled(w, how, ended):
    async def main():
        fut = w.aio.get_running_loop().create_future()
        if ended == "cancelled":
            fut.cancel("why")
        else:
            fut.set_exception(ValueError("text"))
        seen = []
        for handled in (KeyError("first"), KeyError("second")):
            try:
                try:
                    raise handled
                except KeyError:
                    await fut if how == "await" else getattr(fut, how)()
            except (ValueError, asyncio.CancelledError) as e:
                seen.append((error(e), error(e.__context__)))
        fut.exception() if ended == "failed" else None
        return [*seen, "end"]

    return w.run(main)


@parity
@since(3, 14)
def test_awaited_by_of_futures(w):
    async def main():
        fut = w.aio.get_running_loop().create_future()

        async def waiter():
            await fut

        tasks = [w.aio.create_task(waiter(), name=n) for n in ("one", "two")]
        await w.aio.sleep(0)
        names = sorted(t.get_name() for t in fut._asyncio_awaited_by)
        fut.set_result(1)
        await w.aio.gather(*tasks)
        return names, not fut._asyncio_awaited_by

    return w.run(main)
