"""loop.close() with pending handles, then the end of the interpreter, does not crash; loops are collected in any order.

uvloop#538, uvloop#706, uvloop#760, uvloop#765.
"""

import pytest

ENDINGS = {
    "pending callbacks": """
loop = new_event_loop()
loop.call_soon(print, "never")
loop.call_later(10, print, "never")
loop.call_soon_threadsafe(print, "never")
loop.close()
""",
    "never closed": """
loop = new_event_loop()
loop.call_soon(print, "never")
loop.call_later(10, print, "never")
""",
    "closed at exit": """
import atexit
loop = new_event_loop()
loop.call_later(10, print)
atexit.register(loop.close)
""",
    "pending tasks and futures": """
loop = new_event_loop()
fut = loop.create_future()
async def wait():
    await fut
task = loop.create_task(wait())
loop.call_soon(loop.stop)
loop.run_forever()
task._log_destroy_pending = False
loop.close()
""",
    "transports open": """
import asyncio, socket
loop = new_event_loop()
left, right = socket.socketpair()
transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=left))
transport.write(b"x" * 10_000_000)
loop.close()
""",
    "server open": """
import asyncio
loop = new_event_loop()
server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
loop.close()
""",
    "readers registered": """
import os
loop = new_event_loop()
reading, writing = os.pipe()
loop.add_reader(reading, print)
loop.close()
""",
    "handles outlive the loop": """
import gc
loop = new_event_loop()
handles = [loop.call_soon(print), loop.call_later(1, print), loop.call_soon_threadsafe(print)]
fut, task_source = loop.create_future(), None
loop.close()
del loop
gc.collect()
for handle in handles:
    repr(handle)
    handle.cancel()
repr(fut)
fut.cancel()
""",
    "loop in a cycle": """
import gc
loop = new_event_loop()
loop.me = loop
loop.call_later(10, loop.call_soon, loop)
fut = loop.create_future()
fut.loop = loop
loop.fut = fut
loop.close()
del loop, fut
gc.collect()
""",
    "collected while another runs": """
import gc
outer = new_event_loop()
def inner():
    loop = new_event_loop()
    loop.me = loop
    loop.call_later(5, loop.stop)
    loop.close()
    del loop
    gc.collect()
for _ in range(50):
    outer.call_soon(inner)
outer.call_soon(outer.stop)
outer.run_forever()
outer.close()
""",
    "threads post until the end": """
import threading, time
loop = new_event_loop()
def post():
    while True:
        try:
            loop.call_soon_threadsafe(int)
        except RuntimeError:
            return
        time.sleep(0)
for _ in range(3):
    threading.Thread(target=post, daemon=True).start()
loop.call_later(0.02, loop.stop)
loop.run_forever()
loop.close()
""",
    "running loop in a daemon thread": """
import threading, time
loop = new_event_loop()
def busy():
    loop.call_soon(busy)
loop.call_soon(busy)
threading.Thread(target=loop.run_forever, daemon=True).start()
time.sleep(0.05)
""",
    "sleeping loop in a daemon thread": """
import threading, time
loop = new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
time.sleep(0.05)
""",
    "module globals first": """
import sys
loop = new_event_loop()
class Late:
    def __del__(self):
        try:
            keep.call_soon(int)
        except (RuntimeError, AttributeError, TypeError):
            pass
keep = loop
late = Late()
loop.close()
""",
    "freed from a callback of itself": """
import gc
loop = new_event_loop()
def forget():
    global loop
    stop = loop.stop
    del loop
    gc.collect()
    stop()
loop.call_soon(forget)
loop.run_forever()
""",
    "many loops": """
for _ in range(200):
    loop = new_event_loop()
    loop.run_until_complete(aio.sleep(0))
    loop.close()
print(len(__import__("os").listdir("/proc/self/fd")) < 30)
""",
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_process_ends_well(world, name):
    done = world.program(ENDINGS[name], python=("-X", "faulthandler", "-W", "ignore"))
    assert done.status == 0, done.err
    assert "Fatal" not in done.err
    assert "Traceback" not in done.err
    assert done.out in ("", "True\n")


@pytest.mark.parametrize("name", ["pending callbacks", "loop in a cycle", "handles outlive the loop", "many loops"])
def test_with_a_checking_allocator(world, name):
    done = world.program(ENDINGS[name], python=("-X", "dev", "-W", "ignore"))
    assert done.status == 0, done.err
    assert "Fatal" not in done.err
