"""Future: the class, subclasses, and how futures end."""

import asyncio
import copy
import gc
import pickle
import types
import weakref

import pytest
from future_makers import make, note
from worlds import drain, error, in_thread, normal, outcome, parity, raised, since

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
    return [answer for answer in answers if answer is None or type(answer) in (bool, tuple)]


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
