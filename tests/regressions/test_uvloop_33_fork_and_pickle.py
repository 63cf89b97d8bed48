"""Pickling or forking with a live loop: the child gets a clear error, the parent is unaffected.

cpython#66285, cpython#75155: parent and child share the poller's descriptor, and one eats the other's events.
"""

import copy
import pickle

import pytest

FORK = """
import asyncio, os, sys, traceback
from asyncio import events

def in_child(attempt):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            attempt()
            print("allowed")
        except RuntimeError as exc:
            print("RuntimeError", any(word in str(exc) for word in ("fork", str(os.getpid()), str(os.getppid()))))
        except BaseException as exc:
            print(type(exc).__name__, exc)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("call", ["call_soon", "call_later", "call_soon_threadsafe", "run_forever", "create_task"])
def test_the_child_is_told(ours, call):
    """Using the parent's loop in the child raises RuntimeError that speaks of the fork."""
    if ours.name == "uvloop":
        pytest.skip("our own promise")
    attempts = {
        "call_soon": "lambda: loop.call_soon(int)",
        "call_later": "lambda: loop.call_later(1, int)",
        "call_soon_threadsafe": "lambda: loop.call_soon_threadsafe(int)",
        "run_forever": "lambda: (events._set_running_loop(None), loop.run_forever())",
        "create_task": "lambda: loop.create_task(asyncio.sleep(0))",
    }
    source = FORK + (
        "loop = new_event_loop()\n"
        f"in_child({attempts[call]})\n"
        "print('parent', loop.run_until_complete(asyncio.sleep(0, 'fine')))\n"
        "loop.close()\n"
    )
    done = ours.program(source, python=("-W", "ignore"))
    assert done.err == ""
    assert done.out == "RuntimeError True\nparent fine\n"


def test_the_child_is_told_inside_a_running_loop(ours):
    if ours.name == "uvloop":
        pytest.skip("our own promise")
    source = FORK + (
        "loop = new_event_loop()\n"
        "async def main():\n"
        "    in_child(lambda: loop.call_soon(int))\n"
        "    return await asyncio.sleep(0.01, 'fine')\n"
        "print('parent', loop.run_until_complete(main()))\n"
        "loop.close()\n"
    )
    done = ours.program(source, python=("-W", "ignore"))
    assert done.err == ""
    assert done.out == "RuntimeError True\nparent fine\n"


ENDS = {
    "sys.exit": ("sys.exit(7)", "SystemExit"),
    "an exception": ("raise ValueError('of the child')", "ValueError: of the child"),
    "an interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "return": ("return 5", "belongs to the parent process"),
    "sleep": ("await asyncio.sleep(0.001)", "no running event loop"),  # asyncio's own answer
    "a turn": ("await asyncio.sleep(0)", "belongs to the parent process"),
    "a future": ("await loop.create_future()", "belongs to the parent process"),
    "a cancellation": ("raise asyncio.CancelledError", "belongs to the parent process"),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_a_child_forked_by_a_coroutine_ends(ours, end, debug):
    """However the coroutine goes on in the child, it leaves the loop there and says why; nothing waits for ever."""
    if ours.name == "uvloop":
        pytest.skip("our own promise")
    statement, said = ENDS[end]
    source = (
        "import asyncio, os, sys\n"
        "parent = os.getpid()\n"
        "async def main():\n"
        "    pid = os.fork()\n"
        "    if pid:\n"
        "        os.waitpid(pid, 0)\n"
        "        return await asyncio.sleep(0.01, 'fine')\n"
        f"    {statement}\n"
        "loop = new_event_loop()\n"
        f"loop.set_debug({debug})\n"
        "loop.slow_callback_duration = 20\n"
        "other = loop.create_task(asyncio.sleep(0.005))\n"
        "try:\n"
        "    print('parent', loop.run_until_complete(main()))\n"
        "except BaseException as exc:\n"
        "    assert os.getpid() != parent\n"
        "    print('child', type(exc).__name__ + ':', exc, flush=True)\n"
        "    os._exit(3)\n"
        "loop.close()\n"
    )
    done = ours.program(source, python=("-W", "ignore"), timeout=15)
    assert done.err == ""
    child, parent = done.out.splitlines()
    assert said in child
    assert parent == "parent fine"


def test_a_child_forked_by_a_callback_ends(ours):
    if ours.name == "uvloop":
        pytest.skip("our own promise")
    source = (
        "import os, signal, sys\n"
        "parent = os.getpid()\n"
        "def forks():\n"
        "    pid = os.fork()\n"
        "    if pid:\n"
        "        print('child', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)\n"
        "def leaves():\n"
        "    forks()\n"
        "    if os.getpid() != parent:\n"
        "        sys.exit(7)\n"
        "loop = new_event_loop()\n"
        "loop.call_soon(forks)\n"
        "loop.call_later(0.01, leaves)\n"
        "loop.call_later(0.02, loop.stop)\n"
        "try:\n"
        "    loop.run_forever()\n"
        "except RuntimeError as exc:\n"
        "    assert 'belongs to the parent process' in str(exc)\n"
        "    os._exit(5)\n"
        "print('end', flush=True)\n"
    )
    done = ours.program(source, python=("-W", "ignore"), timeout=15)
    assert (done.out.splitlines(), done.err) == (["child 5", "child 7", "end"], "")


FORKING = """
import asyncio, os, signal, socket, sys
place, end = sys.argv[1:]
parent = os.getpid()
loop = new_event_loop()
left, right = socket.socketpair()

def forks(*_):
    pid = os.fork()
    if pid:
        print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        loop.call_soon(loop.stop)
    elif end == "exit":
        sys.exit(7)

class Forks(asyncio.Protocol):
    pass

class ForksInto(asyncio.BufferedProtocol):
    def get_buffer(self, hint):
        return bytearray(10)
    buffer_updated = forks

class ForksAt(asyncio.DatagramProtocol):
    datagram_received = forks

if place in ("data_received", "eof_received", "connection_lost"):
    setattr(Forks, place, forks)
    loop.run_until_complete(loop.create_connection(Forks, sock=left))
    right.send(b"x") if place == "data_received" else right.close()
elif place == "buffer_updated":
    loop.run_until_complete(loop.create_connection(ForksInto, sock=left))
    right.send(b"x")
elif place == "datagram_received":
    transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(ForksAt, local_addr=("127.0.0.1", 0)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", transport.get_extra_info("sockname"))
elif place == "reader":
    loop.add_reader(left, lambda: (loop.remove_reader(left), forks()))
    right.send(b"x")
elif place == "factory":
    server = loop.run_until_complete(loop.create_server(lambda: forks() or Forks(), "127.0.0.1", 0))
    client = socket.create_connection(server.sockets[0].getsockname())
elif place == "signal handler":
    loop.add_signal_handler(signal.SIGUSR1, forks)
    loop.call_soon(os.kill, parent, signal.SIGUSR1)
elif place == "exception handler":
    loop.set_exception_handler(forks)
    loop.call_soon(lambda: 1 / 0)
elif place == "done callback":
    fut = loop.create_future()
    fut.add_done_callback(forks)
    fut.set_result(None)
try:
    loop.run_forever()
except SystemExit as exc:
    os._exit(exc.code)
except RuntimeError as exc:
    assert os.getpid() != parent and "belongs to the parent process" in str(exc)
    os._exit(5)
print("end", os.getpid() == parent)
"""
PLACES = [
    "data_received",
    "eof_received",
    "connection_lost",
    "buffer_updated",
    "datagram_received",
    "reader",
    "factory",
]
PLACES += ["signal handler", "exception handler", "done callback"]


@pytest.mark.parametrize("end", ["exit", "go on"])
@pytest.mark.parametrize("place", PLACES)
def test_a_child_forked_anywhere_ends(ours, place, end):
    """As a server does that forks for each request."""
    if ours.name == "uvloop":
        pytest.skip("our own promise")
    done = ours.program(FORKING, place, end, python=("-W", "ignore"), timeout=15)
    assert done.out.splitlines() == [f"child {7 if end == 'exit' else 5}", "end True"]


UNDER_RUN = """
import asyncio, os, sys

async def main():
    others = [asyncio.create_task(asyncio.sleep(0.01)) for _ in range(3)]
    await asyncio.sleep(0)
    pid = os.fork()
    if not pid:
        END
    print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    await asyncio.gather(*others)

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("end", ["return", "raise ValueError"])
def test_a_child_forked_under_run_ends(ours, end):
    """run() cancels and closes on its way out; that the loop is not the child's comes on top of what happened."""
    if ours.name == "uvloop":
        pytest.skip("our own promise")
    done = ours.program(UNDER_RUN.replace("END", end), python=("-W", "ignore"), timeout=15)
    assert done.out == "child 1\n"
    assert "belongs to the parent process" in done.err


@pytest.mark.parametrize(("end", "status"), [("sys.exit(7)", 7), ("sys.exit()", 0), ("raise SystemExit('text')", 1)])
def test_a_child_forked_under_run_exits_as_it_says(ours, end, status):
    if ours.name == "uvloop":
        pytest.skip("our own promise")
    done = ours.program(UNDER_RUN.replace("END", end), python=("-W", "ignore"), timeout=15)
    assert done.out == f"child {status}\n"
    assert "belongs to the parent process" not in done.err


def test_the_parents_events_stay_its_own(world):
    """The child closes its copies and ends; registrations of the parent go on working."""
    source = FORK + (
        "import socket\n"
        "loop = new_event_loop()\n"
        "left, right = socket.socketpair()\n"
        "seen = []\n"
        "loop.add_reader(left, lambda: (seen.append(left.recv(10)), loop.stop()))\n"
        "loop.call_later(0.05, right.send, b'event')\n"
        "in_child(lambda: (left.close(), right.close()))\n"
        "loop.run_forever()\n"
        "loop.remove_reader(left)\n"
        "print(seen)\n"
        "loop.close()\n"
    )
    done = world.program(source, python=("-W", "ignore"))
    assert done.out == "allowed\n[b'event']\n"


def test_closing_in_the_child_leaves_the_parent_alone(ours):
    source = FORK + (
        "import socket\n"
        "loop = new_event_loop()\n"
        "left, right = socket.socketpair()\n"
        "seen = []\n"
        "loop.add_reader(left, lambda: (seen.append(left.recv(10)), loop.stop()))\n"
        "in_child(loop.close)\n"
        "loop.call_later(0.01, right.send, b'event')\n"
        "loop.run_forever()\n"
        "loop.remove_reader(left)\n"
        "print(seen)\n"
        "loop.close()\n"
    )
    if ours.name == "uvloop":
        pytest.skip("our own promise")
    done = ours.program(source, python=("-W", "ignore"))
    assert done.out.splitlines()[-1] == "[b'event']"
    assert "Fatal" not in done.err


def test_a_new_loop_in_the_child_works(world):
    source = FORK + (
        "loop = new_event_loop()\n"
        "def fresh():\n"
        "    events._set_running_loop(None)\n"
        "    other = new_event_loop()\n"
        "    assert other.run_until_complete(asyncio.sleep(0.01, 'x')) == 'x'\n"
        "    other.close()\n"
        "async def main():\n"
        "    in_child(fresh)\n"
        "    return 'fine'\n"
        "print(loop.run_until_complete(main()))\n"
        "loop.close()\n"
    )
    done = world.program(source, python=("-W", "ignore"))
    assert done.out == "allowed\nfine\n"


def test_multiprocessing_fork_inside_a_program(world):
    source = (
        "import multiprocessing, asyncio\n"
        "def work(q):\n"
        "    loop = new_event_loop()\n"
        "    q.put(loop.run_until_complete(asyncio.sleep(0, 'child')))\n"
        "    loop.close()\n"
        "context = multiprocessing.get_context('fork')\n"
        "loop = new_event_loop()\n"
        "async def main():\n"
        "    q = context.Queue()\n"
        "    child = context.Process(target=work, args=(q,))\n"
        "    child.start()\n"
        "    answer = await loop.run_in_executor(None, q.get, True, 10)\n"
        "    child.join()\n"
        "    return answer, child.exitcode\n"
        "print(loop.run_until_complete(main()))\n"
        "loop.close()\n"
    )
    done = world.program(source, python=("-W", "ignore"))
    assert done.out == "('child', 0)\n"


def test_pickling_and_copying(world):
    with world.loop() as loop:
        things = [loop, loop.create_future(), loop.call_soon(int), loop.call_later(1, int)]
        for thing in things:
            with pytest.raises((TypeError, pickle.PicklingError)):
                pickle.dumps(thing)
            if not world.stock:  # half-made copies of stock's own loop complain when they go away
                with pytest.raises(TypeError):
                    copy.deepcopy(thing)
