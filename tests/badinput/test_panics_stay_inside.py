"""A panic of ours is an exception, never an abort: at a call, and as a callback of the loop.

`_core._panic_for_test()` panics inside the native border.
"""

import pytest
from worlds import IMPORT_ERROR

pytestmark = pytest.mark.skipif(IMPORT_ERROR is not None, reason=f"asynchrotron cannot be imported: {IMPORT_ERROR}")


def test_a_call_raises_system_error():
    from asynchrotron import _core

    for _ in range(3):
        with pytest.raises(SystemError) as caught:
            _core._panic_for_test()
        assert "internal error" in str(caught.value)


@pytest.mark.parametrize(
    "how", ["call_soon", "call_later", "call_soon_threadsafe", "done callback", "reader", "in a task"]
)
def test_from_the_loop_it_goes_to_the_exception_handler(world, how):
    if not world.ours:
        pytest.skip("our own promise")
    import socket

    from asynchrotron import _core

    contexts, seen = [], []
    with world.loop() as loop:
        loop.set_exception_handler(lambda _, context: contexts.append(type(context["exception"]).__name__))
        left, right = socket.socketpair()
        with left, right:
            if how == "call_soon":
                loop.call_soon(_core._panic_for_test)
            elif how == "call_later":
                loop.call_later(0, _core._panic_for_test)
            elif how == "call_soon_threadsafe":
                loop.call_soon_threadsafe(_core._panic_for_test)
            elif how == "done callback":
                fut = loop.create_future()
                fut.add_done_callback(lambda _: _core._panic_for_test())
                fut.set_result(None)
            elif how == "reader":
                right.send(b"x")
                loop.add_reader(left, lambda: (loop.remove_reader(left), _core._panic_for_test()))
            else:

                async def body():
                    _core._panic_for_test()

                task = loop.create_task(body())
                task.add_done_callback(lambda t: contexts.append(type(t.exception()).__name__))
            loop.call_soon(seen.append, "same turn")
            loop.call_later(0.01, seen.append, "later")
            loop.call_later(0.012, loop.stop)
            loop.run_forever()
            loop.remove_reader(left)
    assert contexts == ["SystemError"]
    assert seen == ["same turn", "later"]


def test_the_process_survives_and_ends_normally(world):
    if not world.ours:
        pytest.skip("our own promise")
    done = world.program(
        "from asynchrotron import _core\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        _core._panic_for_test()\n"
        "    except SystemError as exc:\n"
        "        print('caught')\n"
        "loop = new_event_loop()\n"
        "print(loop.run_until_complete(aio.sleep(0, 'alive')))\n"
        "loop.close()\n"
    )
    assert (done.status, done.out) == (0, "caught\ncaught\nalive\n")


def test_uncaught_it_is_an_ordinary_traceback(world):
    if not world.ours:
        pytest.skip("our own promise")
    done = world.program("from asynchrotron import _core\n_core._panic_for_test()\n")
    assert done.status == 1
    assert "SystemError" in done.err
    assert "Fatal" not in done.err
