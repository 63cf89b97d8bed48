"""Ctrl-C during run_forever raises KeyboardInterrupt promptly, asleep or in a busy callback loop.

add_signal_handler and signal.signal can coexist; loops outside the main thread are undisturbed.
uvloop#295, uvloop#335, uvloop#94, uvloop#296. (What Runner makes of Ctrl-C is in tests/parity/test_signals.py.)
"""

import pytest

PRELUDE = """
import os, signal, sys, threading, time
loop = new_event_loop()
sent = []
def interrupt():
    time.sleep(0.1)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
def report():
    took = time.monotonic() - sent[0]
    print("prompt" if took < 0.1 else f"after {took} s")
"""

PROGRAMS = {
    "asleep": """
threading.Thread(target=interrupt).start()
try:
    loop.run_forever()
except KeyboardInterrupt:
    report()
loop.close()
""",
    "asleep with a distant timer": """
threading.Thread(target=interrupt).start()
loop.call_later(1000, print)
try:
    loop.run_forever()
except KeyboardInterrupt:
    report()
loop.close()
""",
    "busy callbacks": """
def busy():
    loop.call_soon(busy)
loop.call_soon(busy)
threading.Thread(target=interrupt).start()
try:
    loop.run_forever()
except KeyboardInterrupt:
    report()
loop.close()
""",
    "busy native callbacks": """
# No Python code runs between two turns: only the loop itself can notice the signal.
for _ in range(10):
    fut = loop.create_future()
def spin(_=None):
    f = loop.create_future()
    f.add_done_callback(spin)
    f.set_result(None)
spin()
threading.Thread(target=interrupt).start()
try:
    loop.run_forever()
except KeyboardInterrupt:
    report()
loop.close()
""",
    "busy reader": """
import socket
left, right = socket.socketpair()
right.send(b"x")
loop.add_reader(left, int)
threading.Thread(target=interrupt).start()
try:
    loop.run_forever()
except KeyboardInterrupt:
    report()
loop.remove_reader(left)
loop.close()
left.close()
right.close()
""",
    "both kinds of handlers": """
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append("plain"))
loop.add_signal_handler(signal.SIGUSR2, seen.append, "loop")
loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
loop.call_later(0.02, os.kill, os.getpid(), signal.SIGUSR2)
loop.call_later(0.05, loop.stop)
loop.run_forever()
loop.close()
print("prompt" if seen == ["plain", "loop"] else seen)
""",
    "a loop in another thread": """
done = []
def body():
    inner = new_event_loop()
    inner.call_later(0.3, inner.stop)
    inner.run_forever()
    inner.close()
    done.append(True)
worker = threading.Thread(target=body)
worker.start()
threading.Thread(target=interrupt).start()
try:
    loop.run_forever()
except KeyboardInterrupt:
    report()
    worker.join()
    assert done
loop.close()
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_promptly(world, name):
    """Within 100 ms. A machine with other work may take longer now and then: the quickest of some runs counts."""
    for _ in range(6):
        done = world.program(PRELUDE + PROGRAMS[name], timeout=15)
        assert (done.err, done.status) == ("", 0)
        if done.out == "prompt\n":
            return
    pytest.fail(done.out)
