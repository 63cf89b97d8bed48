"""The interpreter ends with everything pending, in orders drawn at random: as on stock asyncio, and without a crash.

A program leaves some things pending (`PENDING`), held by something (`HELD`), perhaps with finalisers that touch the
loop, and ends in one of many ways (`ENDINGS`). Exit status and output have to be stock's, and standard error speaks of
no error that stock does not speak of. (It may name other things that were left open or pending, or fewer: stock forgets
tasks, ours belong to their loop.) FUZZ_EXAMPLES=2000 tries more programs.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import pytest
import tls_wires
import worlds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SECONDS_MAX = 30
pytestmark = [
    pytest.mark.timeout(120 + 3 * EXAMPLES),
    pytest.mark.filterwarnings("ignore:It looks like `register_random`"),
]

PRELUDE = """
import asyncio, atexit, builtins, concurrent.futures, contextvars, gc, os, signal, socket, ssl, subprocess, sys
import threading, time, types, weakref
keep = []
def parts(keep):
    return [part for each in keep if isinstance(each, tuple) for part in each]
def server_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1] + "/server.pem", sys.argv[1] + "/server.key")
    return context
def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
class Touch:
    # At its end it does something with the loop, whatever is left of both.
    def __init__(self, act, loop, keep):
        self.act, self.loop, self.keep, self.me = act, loop, keep, self
    def __del__(self):
        touch(self.act, self.loop, self.keep)
def touch(act, loop, keep):
    try:
        act(loop, keep)
    except BaseException:
        pass
async def forever():
    await aio.get_running_loop().create_future()
async def stubborn():
    # Asks the loop for something when it is thrown away or cancelled.
    try:
        await forever()
    finally:
        try:
            aio.get_running_loop().call_soon(int)
        except RuntimeError:
            pass
"""

PENDING = {
    "sleep": "keep.append(loop.create_task(aio.sleep(1000)))",
    "future": "keep.append(loop.create_future())\nkeep.append(loop.create_task(forever()))",
    "finally": "keep.append(loop.create_task(stubborn()))",
    "failed": "failed = loop.create_future()\nfailed.set_exception(ValueError('never asked for'))\nkeep.append(failed)",
    "lock": "lock = aio.Lock()\nawait lock.acquire()\nkeep.append((lock, loop.create_task(lock.acquire())))",
    "event": "event = aio.Event()\nkeep.append(loop.create_task(event.wait()))",
    "condition": """
condition = aio.Condition()
async def conditional():
    async with condition:
        await condition.wait()
keep.append(loop.create_task(conditional()))
""",
    "barrier": "barrier = aio.Barrier(2)\nkeep.append(loop.create_task(barrier.wait()))",
    "queue": "queue = aio.Queue()\nkeep.extend([loop.create_task(queue.get()), loop.create_task(queue.get())])",
    "gather": "keep.append(aio.gather(forever(), aio.sleep(1000), loop.create_future()))",
    "shield": "keep.append(aio.shield(loop.create_task(forever())))",
    "wait": "keep.append(loop.create_task(aio.wait([loop.create_task(forever())])))",
    "wait_for": "keep.append(loop.create_task(aio.wait_for(forever(), 1000)))",
    "group": """
async def grouped():
    async with aio.TaskGroup() as group:
        group.create_task(forever())
        group.create_task(aio.sleep(1000))
keep.append(loop.create_task(grouped()))
""",
    "timeout": """
async def timed():
    async with aio.timeout(1000):
        await forever()
keep.append(loop.create_task(timed()))
""",
    "generator": """
async def numbers():
    try:
        yield 1
    finally:
        await aio.sleep(0)
generator = numbers()
await generator.__anext__()
keep.append(generator)
""",
    "to_thread": "keep.append(loop.create_task(aio.to_thread(threading.Event().wait, 0.1)))",
    "executor": """
pool = concurrent.futures.ThreadPoolExecutor(1)
keep.append([loop.run_in_executor(pool, time.sleep, 0.02) for _ in range(4)])
""",
    "timers": "keep.append(loop.call_later(1000, int))\nkeep.append(loop.call_later(1000, keep.append, loop))",
    "callbacks": "loop.call_soon(aio.Future, 1)\nkeep.append(loop.call_soon_threadsafe(int))",
    "threads": """
def post(loop=loop):
    while True:
        try:
            loop.call_soon_threadsafe(int)
        except BaseException:
            return
        time.sleep(0.001)
threading.Thread(target=post, daemon=True).start()
""",
    "signal": "loop.add_signal_handler(signal.SIGUSR1, int)",
    "reader": "left, right = socket.socketpair()\nloop.add_reader(left, int)\nkeep.append((left, right))",
    "sock_recv": """
left, right = socket.socketpair()
left.setblocking(False)
keep.append((left, right, loop.create_task(loop.sock_recv(left, 10))))
""",
    "server": "keep.append(await loop.create_server(aio.Protocol, '127.0.0.1', 0))",
    "tcp": """
server = await loop.create_server(aio.Protocol, "127.0.0.1", 0)
transport, _ = await loop.create_connection(aio.Protocol, *server.sockets[0].getsockname())
transport.write(b"x" * 10_000_000)
keep.append((server, transport))
""",
    "closing": """
left, right = socket.socketpair()
transport, _ = await loop.create_connection(aio.Protocol, sock=left)
transport.write(b"x" * 10_000_000)
transport.close()
keep.append((transport, right))
""",
    "streams": """
left, right = socket.socketpair()
reader, writer = await aio.open_connection(sock=left)
writer.write(b"x" * 10_000_000)
keep.append((right, loop.create_task(reader.readline()), loop.create_task(writer.drain())))
""",
    "tls": """
async def serve(reader, writer):
    await reader.read()
server = await aio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
reader, writer = await aio.open_connection(*server.sockets[0].getsockname(), ssl=client_context())
writer.write(b"x" * 100_000)
keep.append((server, writer, loop.create_task(reader.readline())))
""",
    "handshake": """
listener = socket.create_server(("127.0.0.1", 0))
connecting = loop.create_connection(aio.Protocol, *listener.getsockname(), ssl=client_context())
keep.append((listener, loop.create_task(connecting)))
""",
    "udp": """
transport, _ = await loop.create_datagram_endpoint(aio.DatagramProtocol, ("127.0.0.1", 0))
transport.sendto(b"x", transport.get_extra_info("sockname"))
keep.append(transport)
""",
    "read pipe": """
reading, writing = os.pipe()
transport, _ = await loop.connect_read_pipe(aio.Protocol, os.fdopen(reading, "rb"))
keep.append((transport, writing))
""",
    "write pipe": """
reading, writing = os.pipe()
transport, _ = await loop.connect_write_pipe(aio.BaseProtocol, os.fdopen(writing, "wb"))
transport.write(b"x" * 1_000_000)
keep.append((transport, reading))
""",
    "child": """
child = await aio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
keep.append((child, loop.create_task(child.communicate(b"x" * 1000)), loop.create_task(child.wait())))
""",
    "waiting child": """
child = await aio.create_subprocess_exec("cat", stdin=subprocess.PIPE)
keep.append((child, loop.create_task(child.wait())))
""",
}

ACTS = (
    "lambda loop, keep: loop.call_soon(int)",
    "lambda loop, keep: loop.call_later(1, int)",
    "lambda loop, keep: loop.call_soon_threadsafe(int)",
    "lambda loop, keep: loop.close()",
    "lambda loop, keep: loop.stop()",
    "lambda loop, keep: loop.create_future().set_result(loop)",
    "lambda loop, keep: loop.run_until_complete(loop.create_future()) if loop.is_closed() else None",
    "lambda loop, keep: keep.clear()",
    "lambda loop, keep: [each.cancel() for each in keep if hasattr(each, 'cancel')]",
    "lambda loop, keep: [part.close() for part in parts(keep) if hasattr(part, 'close')]",
    "lambda loop, keep: [part.cancel() for part in parts(keep) if hasattr(part, 'cancel')]",
    "lambda loop, keep: (gc.collect(), repr(loop), repr(keep))",
)

HELD = {
    "globals": "",
    "builtins": "builtins.kept = (keep, loop)",
    "cycle": "keep.append(Touch({act}, loop, keep))",
    "attribute of the loop": "loop.kept = (loop, keep, Touch({act}, loop, keep))",
    "finalizer": "weakref.finalize(loop, touch, {act}, loop, keep)",
    "module": "kept = sys.modules['kept'] = types.ModuleType('kept')\nkept.touch = Touch({act}, loop, keep)",
    "thread local": "local = threading.local()\nlocal.kept = (Touch({act}, loop, keep), loop)",
    "context": "variable = contextvars.ContextVar('variable')\nvariable.set((keep, Touch({act}, loop, keep)))",
    "class": "class Kept:\n    kept = (loop, keep)\n    touch = Touch({act}, loop, keep)",
    "collector": "gc.callbacks.append(lambda phase, info, loop=loop, keep=keep: touch({act}, loop, keep))",
    "at exit": "atexit.register(touch, {act}, loop, keep)",
    "frame": "def held():\n    mine = (loop, keep, Touch({act}, loop, keep))\n    yield\nheld = held()\nnext(held)",
    "hook": "sys.unraisablehook = lambda _, loop=loop, keep=keep: touch({act}, loop, keep)",
    "first of all": "import encodings\nencodings.kept = Touch({act}, loop, keep)",
}

ENDINGS = {
    "nothing": "",
    "closed": "loop.close()",
    "closed, then again": "loop.close()\natexit.register(loop.close)",
    "closed at exit": "atexit.register(loop.close)",
    "forgotten": "keep.clear()\ndel loop, keep\ngc.collect()",
    "the loop goes first": "del loop\ngc.collect()",
    "the rest goes first": "keep.clear()\ngc.collect()",
    "cancelled": """
left = aio.all_tasks(loop)
for each in left: each.cancel()
loop.run_until_complete(aio.wait(left)) if left else None
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
""",
    "exit in a callback": "loop.call_soon(sys.exit, 3)\nloop.run_forever()",
    "exit in a task": "async def leave(): sys.exit(4)\nloop.run_until_complete(leave())",
    "error": "raise RuntimeError('the end')",
    "interrupted": "loop.call_soon(signal.raise_signal, signal.SIGINT)\nloop.run_forever()",
    "daemon thread": """
threading.Thread(target=loop.run_forever, daemon=True).start()
while not loop.is_running(): time.sleep(0.001)
""",
    "closed by a thread": """
def last():
    threading.main_thread().join()
    loop.close()
threading.Thread(target=last).start()
""",
    "stopped by a thread": """
loop.call_soon(threading.Thread(target=lambda: (time.sleep(0.01), loop.call_soon_threadsafe(loop.stop))).start)
loop.run_forever()
""",
    "fork": """
sys.stdout.flush()
child = os.fork()
if child == 0: sys.exit(5)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
loop.close()
""",
    "fork and close": """
sys.stdout.flush()
child = os.fork()
if child == 0:
    loop.close()
    sys.exit(5)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
loop.close()
""",
    "another loop": """
other = new_event_loop()
other.kept = (loop, keep)
other.run_until_complete(aio.sleep(0))
other.close()
""",
    "run at exit": "atexit.register(lambda: touch(lambda loop, _: loop.run_until_complete(aio.sleep(0)), loop, keep))",
}


@dataclass(frozen=True, repr=False)
class Program:
    """What it is made of, and its source."""

    words: tuple[str, ...]
    source: str

    def __repr__(self) -> str:
        return f"{' / '.join(self.words)}"


@st.composite
def programs(draw: st.DrawFn) -> Program:
    pending = draw(st.lists(st.sampled_from(tuple(PENDING)), min_size=1, max_size=4, unique=True))
    held = draw(st.lists(st.sampled_from(tuple(HELD)), max_size=2, unique=True))
    ending = draw(st.sampled_from(tuple(ENDINGS)))
    lines = [PRELUDE, "loop = new_event_loop()", "async def begin():"]
    for name in pending:
        lines += [f"    {line}" for line in PENDING[name].strip().splitlines()]
    lines += ["    for _ in range(3): await aio.sleep(0)", "loop.run_until_complete(begin())"]
    acts = []
    for name in held:
        text = HELD[name]
        if "{act}" in text:
            acts.append(draw(st.sampled_from(ACTS)))
            text = text.replace("{act}", acts[-1])
        lines.append(text)
    lines += ["print('ends', flush=True)", ENDINGS[ending]]
    return Program((*pending, "held:", *held, *acts, "ending:", ending), "\n".join(lines) + "\n")


def start(world: worlds.World, program: Program, folder: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHONASYNCIO")}
    environment["PYTHONPATH"] = worlds.PACKAGE_ROOT
    source = world.preamble + "\n" + program.source
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-W", "default", "-c", source, folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ended(process: subprocess.Popen[str]) -> worlds.Outcome:
    try:
        out, err = process.communicate(timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        # faulthandler says where it hangs.
        process.send_signal(6)
        out, err = process.communicate()
        return worlds.Outcome(-1, out, f"HANGS\n{err}")
    return worlds.Outcome(process.returncode, out, err)


_NUMBERS = re.compile(r"\b(fd|pid|returncode)=\S+|(?<=\.py:)\d+|(?<=, line )\d+")
# What was left open or pending, and coroutines that find their loop closed when they are thrown away: which of
# these is said depends on which goes first.
_LEFT = re.compile(
    r"ResourceWarning: |Task was destroyed but it is pending!|task: <|never retrieved|future: <|never asked for"
    r"|Traceback |Exception ignored (in:|while closing generator) <coroutine object |RuntimeError: Event loop is closed"
)


def complaints(err: str) -> Counter[str]:
    """The lines of standard error that say that something went wrong, without what differs between two runs."""
    lines = [worlds.normal(_NUMBERS.sub("N", line)) for line in err.splitlines()]
    return Counter(line for line in lines if line and not line.startswith(" ") and not _LEFT.search(line))


@given(program=programs())
@settings(
    max_examples=EXAMPLES or 20,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.skipif(worlds.asynchrotron is None, reason=f"asynchrotron cannot be imported: {worlds.IMPORT_ERROR}")
def test_the_end_is_stocks(program: Program) -> None:
    folder = str(tls_wires.folder())
    running = {name: start(worlds.WORLDS[name], program, folder) for name in ("stock", "loop", "native")}
    outcomes = {name: ended(process) for name, process in running.items()}
    stock = outcomes.pop("stock")
    for name, got in outcomes.items():
        said = f"{program!r}\n\n{program.source}\nstock: {stock.status}\n{stock.err}\n{name}: {got.status}\n{got.err}"
        assert (got.status, got.out) == (stock.status, stock.out), said
        assert not complaints(got.err) - complaints(stock.err), said
