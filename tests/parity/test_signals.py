"""Signals: handlers as callbacks of the loop, their refusals, and Ctrl-C in programs of their own."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
from worlds import in_thread, parity, raised, run_python


@parity
def test_a_handler_runs_as_a_callback(w):
    before = signal.getsignal(signal.SIGUSR1)
    with w.loop() as loop:
        seen = []

        def handler(*args):
            seen.append(("handler", args, asyncio._get_running_loop() is loop))
            loop.call_soon(loop.stop)

        loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two")
        loop.call_soon(lambda: (os.kill(os.getpid(), signal.SIGUSR1), seen.append("sent")))
        loop.run_forever()
        seen.append(loop.remove_signal_handler(signal.SIGUSR1))
        seen.append(loop.remove_signal_handler(signal.SIGUSR1))
        seen.append(signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, before)
    assert seen[:2] == ["sent", ("handler", (1, "two"), True)]
    return seen


@parity
def test_replacing_and_several_signals(w):
    with w.loop() as loop:
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "second")
        loop.add_signal_handler(signal.SIGUSR2, seen.append, "other")
        loop.add_signal_handler(signal.SIGALRM, lambda: (seen.append("alarm"), loop.stop()))
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        loop.run_forever()
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            loop.remove_signal_handler(number)
        return seen


@parity
def test_a_signal_ends_a_long_wait(w):
    with w.loop() as loop:
        loop.add_signal_handler(signal.SIGALRM, loop.stop)
        loop.call_later(15, loop.stop)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        started = time.monotonic()
        loop.run_forever()
        loop.remove_signal_handler(signal.SIGALRM)
        return time.monotonic() - started < 5


@parity
def test_plain_signal_handlers_run_too(w):
    """signal.signal() beside add_signal_handler(): Python's handlers run while the loop sleeps and while it is busy."""
    seen = []
    before = signal.signal(signal.SIGUSR2, lambda *_: seen.append("plain"))
    try:
        with w.loop() as loop:
            loop.add_signal_handler(signal.SIGUSR1, lambda: seen.append("loop"))
            loop.call_soon(os.kill, os.getpid(), signal.SIGUSR2)
            loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
            loop.call_later(0.03, loop.stop)
            loop.run_forever()
            loop.remove_signal_handler(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR2, before)
    return seen


@parity
def test_an_exception_from_a_plain_signal_handler_leaves_the_loop(w):
    class Leave(Exception):
        pass

    def handler(*_):
        raise Leave("from a signal handler")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with w.loop() as loop:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            answer = raised(loop.run_forever)
            running = loop.is_running()
            loop.call_soon(loop.stop)
            loop.run_forever()
            return answer, running
    finally:
        signal.signal(signal.SIGALRM, before)


@parity
def test_refusals(w):
    async def coroutine():
        pass

    made = coroutine()
    with w.loop() as loop:
        trace = [
            raised(loop.add_signal_handler, "SIGUSR1", print),
            raised(loop.add_signal_handler, 1000, print),
            raised(loop.add_signal_handler, 0, print),
            raised(loop.add_signal_handler, -1, print),
            raised(loop.add_signal_handler, signal.SIGKILL, print),
            raised(loop.add_signal_handler, signal.SIGUSR1, coroutine),
            raised(loop.add_signal_handler, signal.SIGUSR1, made),
            raised(loop.remove_signal_handler, "x"),
            raised(loop.remove_signal_handler, 1000),
            loop.remove_signal_handler(signal.SIGUSR1),
            in_thread(lambda: loop.add_signal_handler(signal.SIGUSR1, print))[0],
            signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL,
        ]
    made.close()
    assert trace[5] == ("TypeError", "coroutines cannot be used with add_signal_handler()")
    return trace


@parity
def test_a_closed_loop(w):
    loop = w.new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    return raised(loop.add_signal_handler, signal.SIGUSR1, print), signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


@parity
def test_the_wakeup_descriptor_is_given_back(w):
    trace = [signal.set_wakeup_fd(-1)]
    with w.loop() as loop:
        loop.add_signal_handler(signal.SIGUSR1, print)
        fd = signal.set_wakeup_fd(-1)
        trace.append(fd != -1)
        signal.set_wakeup_fd(fd)
        loop.remove_signal_handler(signal.SIGUSR1)
        trace.append(signal.set_wakeup_fd(-1))
    return trace


@parity
def test_sigint_handler_of_the_loop(w):
    with w.loop() as loop:
        seen = []
        before = signal.getsignal(signal.SIGINT)
        loop.add_signal_handler(signal.SIGINT, lambda: (seen.append("interrupt"), loop.stop()))
        loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
        loop.run_forever()
        loop.remove_signal_handler(signal.SIGINT)
        seen.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        signal.signal(signal.SIGINT, before)
        return seen


@parity
def test_a_failing_handler(w):
    errors = []
    with w.loop(errors=errors) as loop:
        loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.call_later(0.02, loop.stop)
        loop.run_forever()
        loop.remove_signal_handler(signal.SIGUSR1)
    assert len(errors) == 1
    return [(exc, keys) for _, exc, keys in errors]


# --- Ctrl-C: whole programs -----------------------------------------------------------------------------------------

INTERRUPT = "import os, signal, sys, time, threading\ndef interrupt(): os.kill(os.getpid(), signal.SIGINT)\n"

PROGRAMS = {
    "run_forever": """
loop = new_event_loop()
loop.call_later(0.02, interrupt)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted", loop.is_running())
loop.call_soon(loop.stop)
loop.run_forever()
loop.close()
print("closed")
""",
    "run_forever asleep": """
loop = new_event_loop()
loop.call_soon(threading.Timer(0.05, interrupt).start)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
loop.close()
""",
    "busy callbacks": """
loop = new_event_loop()
calls = 0
def busy():
    global calls
    calls += 1
    if calls == 200:
        threading.Thread(target=interrupt).start()
    loop.call_soon(busy)
loop.call_soon(busy)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted", calls > 100)
loop.close()
""",
    "busy tasks": """
loop = new_event_loop()
async def busy():
    threading.Thread(target=interrupt).start()
    while True:
        await aio.sleep(0)
task = loop.create_task(busy())
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
finally:
    loop.close()
    task._log_destroy_pending = False
    task._log_traceback = False  # The signal may also have met the coroutine's own code.
""",
    "inside a callback": """
loop = new_event_loop()
def callback():
    interrupt()
    for _ in range(1000): pass
    print("not reached")
loop.call_soon(callback)
loop.call_soon(print, "same turn")
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
loop.call_soon(loop.stop)
loop.run_forever()
loop.close()
""",
    "run cancels main": """
async def main():
    aio.get_running_loop().call_later(0.02, interrupt)
    try:
        await aio.sleep(100)
    except aio.CancelledError as exc:
        print("cancelled", exc.args, aio.current_task().cancelling())
        raise
    finally:
        print("finally")
try:
    run(main())
except KeyboardInterrupt as exc:
    print("KeyboardInterrupt", exc.args, type(exc.__context__).__name__)
""",
    "main swallows the cancellation": """
async def main():
    aio.get_running_loop().call_later(0.02, interrupt)
    try:
        await aio.sleep(100)
    except aio.CancelledError:
        return "swallowed"
print(run(main()))
""",
    "main raises something else": """
async def main():
    aio.get_running_loop().call_later(0.02, interrupt)
    try:
        await aio.sleep(100)
    except aio.CancelledError:
        raise ValueError("else")
try:
    run(main())
except ValueError as exc:
    print(repr(exc))
""",
    "second interrupt": """
async def main():
    loop = aio.get_running_loop()
    loop.call_later(0.02, interrupt)
    loop.call_later(0.06, interrupt)
    try:
        await aio.sleep(100)
    except aio.CancelledError:
        print("first")
        await aio.sleep(100)
try:
    run(main())
except KeyboardInterrupt:
    print("second")
""",
    "blocking main": """
async def main():
    interrupt()
    time.sleep(0.01)
    print("still in main: only cancelled")
    await aio.sleep(0)
    print("not reached")
try:
    run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
""",
    "busy main": """
async def main():
    threading.Timer(0.05, interrupt).start()
    while True:
        await aio.sleep(0)
try:
    run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
""",
    "other tasks are cancelled too": """
async def other(name):
    try:
        await aio.sleep(100)
    finally:
        print(name, "ends")
async def main():
    tasks = [aio.create_task(other(n)) for n in ("a",)]
    aio.get_running_loop().call_later(0.02, interrupt)
    await aio.gather(*tasks)
try:
    run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
""",
    "own SIGINT handler stays": """
signal.signal(signal.SIGINT, lambda *_: print("own handler"))
async def main():
    interrupt()
    await aio.sleep(0.01)
    return "not cancelled"
print(run(main()))
""",
    "handler is restored": """
async def main():
    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
run(main())
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
""",
    "uncaught": """
async def main():
    aio.get_running_loop().call_later(0.02, interrupt)
    await aio.sleep(100)
run(main())
""",
    "not in the main thread": """
def body():
    async def main():
        await aio.sleep(0.05)
        return "thread is undisturbed"
    print(run(main()))
thread = threading.Thread(target=body)
thread.start()
try:
    interrupt()
    thread.join()
except KeyboardInterrupt:
    print("main thread got it")
thread.join()
""",
    "system exit": """
async def main():
    aio.get_running_loop().call_soon(sys.exit, 7)
    await aio.sleep(100)
run(main())
""",
    "system exit in a task": """
async def child():
    sys.exit("last words")
async def main():
    await aio.create_task(child())
run(main())
""",
}
RUN = """
def run(coroutine):
    with aio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(coroutine)
"""


@parity
@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c(w, name):
    done = w.program(INTERRUPT + RUN + PROGRAMS[name], python=("-W", "error"), timeout=15)
    err = done.err.strip().splitlines()
    assert "Fatal" not in done.err
    if name == "uncaught":
        assert done.status == -signal.SIGINT
    return done.status, done.out, err[-1:]


@parity
def test_ctrl_c_from_the_terminal_at_a_sleeping_program(w):
    """The signal comes from outside, as a terminal sends it, and finds the process inside the kernel."""
    source = (
        w.preamble
        + "\n"
        + RUN
        + (
            "async def main():\n    print('ready', flush=True)\n    await aio.sleep(100)\n"
            "try:\n    run(main())\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
        )
    )
    env = dict(os.environ)
    child = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.05)
        started = time.monotonic()
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=10)
        assert time.monotonic() - started < 5
    finally:
        child.kill()
        child.wait()
    return out, child.returncode


@parity
def test_sigterm_with_a_loop_handler_in_a_program(w):
    source = (
        "import os, signal\n"
        "loop = new_event_loop()\n"
        "loop.add_signal_handler(signal.SIGTERM, loop.stop)\n"
        "loop.call_soon(os.kill, os.getpid(), signal.SIGTERM)\n"
        "loop.run_forever()\n"
        "loop.close()\n"
        "print('clean end')\n"
    )
    done = w.program(source)
    assert done.out == "clean end\n"
    return done


def test_run_python_helper():
    done = run_python(["-c", "import sys; print(1); sys.exit(3)"])
    assert (done.status, done.out) == (3, "1\n")
