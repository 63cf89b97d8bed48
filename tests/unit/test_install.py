"""install() and uninstall(): names, loops, reports and their undoing; each in a process of its own."""

import sys
import textwrap

import pytest
from worlds import IMPORT_ERROR, run_python, since

pytestmark = pytest.mark.skipif(IMPORT_ERROR is not None, reason=f"asynchrotron cannot be imported: {IMPORT_ERROR}")


def program(source, *args, **kwargs):
    """Run a program; what it prints, as lines. Any error fails the test."""
    done = run_python([*kwargs.pop("python", ()), "-c", textwrap.dedent(source), *args], **kwargs)
    assert done.err == ""
    assert done.status == 0
    return done.out.splitlines()


def check(source, **kwargs):
    """Run a program of assertions."""
    assert program(source + "\nprint('end')", **kwargs)[-1] == "end"


def test_every_way_to_a_loop():
    check(
        """
import asyncio, asynchrotron
asynchrotron.install()

async def kind():
    return type(asyncio.get_running_loop()) is asynchrotron.EventLoop

assert asyncio.run(kind())
with asyncio.Runner() as runner:
    assert runner.run(kind())
loop = asyncio.new_event_loop()
assert type(loop) is asynchrotron.EventLoop
asyncio.set_event_loop(loop)
assert asyncio.get_event_loop() is loop
loop.close()
"""
    )


def test_get_event_loop_creates_ours():
    """Where the interpreter still creates one (up to 3.13), with its deprecation warning as ever."""
    check(
        """
import asyncio, asynchrotron, sys, warnings
asynchrotron.install()
warnings.simplefilter("ignore")
if sys.version_info < (3, 14):
    loop = asyncio.get_event_loop()
    assert type(loop) is asynchrotron.EventLoop
    loop.close()
else:
    try:
        asyncio.get_event_loop()
    except RuntimeError:
        pass
    else:
        raise AssertionError
"""
    )


def test_names_are_native():
    check(
        """
import asyncio, asynchrotron, sys
from asynchrotron import _core
asynchrotron.install()
names = ["Future", "Task", "Handle", "TimerHandle", "sleep"]
names += ["current_task", "all_tasks", "create_task", "ensure_future"]
if sys.version_info >= (3, 12):
    names += ["eager_task_factory", "create_eager_task_factory"]
for name in names:
    assert getattr(asyncio, name) is getattr(_core, name), name
from asyncio import Task, sleep
from asyncio.tasks import Task as TasksTask
from asyncio.futures import Future
from asyncio.events import Handle
assert (Task, TasksTask, Future, Handle) == (_core.Task, _core.Task, _core.Future, _core.Handle)
assert sleep is _core.sleep
"""
    )


def test_every_name_in_every_module_of_asyncio():
    """asyncio.tasks.gather, asyncio.locks.Lock, asyncio.subprocess.streams: nothing public is left of the stdlib's."""
    check(
        """
import asyncio, importlib, pkgutil
names = [m.name for m in pkgutil.iter_modules(asyncio.__path__) if "windows" not in m.name and m.name != "__main__"]
modules = [asyncio, *(importlib.import_module("asyncio." + name) for name in names)]
before = {module: dict(vars(module)) for module in modules}
import asynchrotron
assert asynchrotron.install() == []
wanted = '''
    Future Task Handle TimerHandle Lock Event Condition Semaphore BoundedSemaphore Barrier Queue PriorityQueue LifoQueue
    StreamReader StreamWriter StreamReaderProtocol open_connection start_server open_unix_connection start_unix_server
    sleep gather wait wait_for as_completed shield timeout timeout_at Timeout TaskGroup ensure_future create_task
    run_coroutine_threadsafe wrap_future to_thread current_task all_tasks
'''.split()
assert not [name for name in wanted if getattr(asyncio, name) is not getattr(asynchrotron._core, name)]
olds = {id(before[asyncio][name]) for name in wanted}
left = [(module.__name__, name) for module in modules for name, value in vars(module).items() if id(value) in olds]
assert not [where for where in left if not where[1].startswith("_")], left
for place in ("tasks.gather", "locks.Lock", "queues.Queue", "streams.StreamReader", "taskgroups.TaskGroup",
              "timeouts.timeout", "threads.to_thread", "futures.wrap_future", "subprocess.streams.StreamReader",
              "runners.tasks.Task", "base_events.futures.Future", "staggered.tasks.wait"):
    *path, name = place.split(".")
    found = asyncio
    for part in [*path, name]:
        found = getattr(found, part)
    assert found is getattr(asynchrotron._core, name), place
asynchrotron.uninstall()
for module in modules:
    now = vars(module)
    changed = [name for name, value in before[module].items() if name[:2] != "__" and now.get(name) is not value]
    # The call graph's functions see native futures from the import on.
    assert not [name for name in changed if not name.endswith("_awaited_by")], (module, changed)
"""
    )


def test_undone_by_uninstall():
    check(
        """
import asyncio, asyncio.tasks, asyncio.events, asyncio.futures
def picture():
    modules = (asyncio, asyncio.tasks, asyncio.events, asyncio.futures, asyncio.runners, asyncio.base_events)
    return [{n: id(v) for n, v in vars(m).items() if not n.startswith("__")} for m in modules]
import asynchrotron
asyncio.run(asyncio.sleep(0))  # what asyncio makes on first use is made
before = picture()
asynchrotron.install()
assert picture() != before
asynchrotron.uninstall()
assert picture() == before
assert asyncio.Task.__module__ == "_asyncio"

async def kind():
    return type(asyncio.get_running_loop()).__module__
assert asyncio.run(kind()) == "asyncio.unix_events"
asynchrotron.uninstall()
assert picture() == before
"""
    )


def test_again_and_again():
    check(
        """
import asyncio, asynchrotron
original = asyncio.Task
for _ in range(3):
    asynchrotron.install()
    asynchrotron.install()
    assert asyncio.Task is asynchrotron.Task
    asynchrotron.uninstall()
    assert asyncio.Task is original
asynchrotron.install()
assert asyncio.run(asyncio.sleep(0, "works")) == "works"
"""
    )


def test_it_says_what_was_imported_before():
    """Names taken earlier stay the stdlib's; they work, and install() tells where they are."""
    check(
        """
from asyncio import Task, sleep, Future
import asyncio, asynchrotron, logging, io
stream = io.StringIO()
logging.basicConfig(level=logging.INFO, stream=stream)
found = asynchrotron.install()
assert ("__main__", "Task") in found, found
assert ("__main__", "sleep") in found
assert ("__main__", "Future") in found
assert "Task" in stream.getvalue()

async def main():
    task = asyncio.create_task(sleep(0.001, "old sleep"))
    assert isinstance(task, Task)
    assert isinstance(asyncio.get_running_loop().create_future(), Future)
    old = Task(sleep(0, "old Task"), loop=asyncio.get_running_loop())
    assert isinstance(old, asyncio.Task)
    return await task, await old

assert asyncio.run(main()) == ("old sleep", "old Task")
"""
    )


def test_quiet_by_default():
    done = run_python(["-c", "from asyncio import Task\nimport asynchrotron\nasynchrotron.install()"])
    assert (done.status, done.out, done.err) == (0, "", "")


def test_early_names_see_native_tasks():
    check(
        """
from asyncio import current_task, all_tasks, Task, Future, isfuture, gather, wait_for, shield, Lock, Queue, TaskGroup
import asyncio, asynchrotron
asynchrotron.install()

async def child(n):
    assert current_task() is asyncio.current_task()
    assert current_task().get_name() == f"child {n}"
    await asyncio.sleep(0)
    assert current_task() in all_tasks()
    return n

async def main():
    assert all_tasks() == asyncio.all_tasks() == {current_task()}
    tasks = [asyncio.create_task(child(n), name=f"child {n}") for n in range(3)]
    assert all_tasks() == {current_task(), *tasks} == asyncio.all_tasks()
    assert all(isinstance(t, Task) and isinstance(t, Future) and isfuture(t) for t in tasks)
    assert await gather(*tasks) == [0, 1, 2]
    async with Lock():
        queue = Queue()
        queue.put_nowait(1)
        assert await queue.get() == 1
    async with TaskGroup() as group:
        task = group.create_task(asyncio.sleep(0, "grouped"))
    return await wait_for(shield(asyncio.sleep(0, task.result())), 5)

assert asyncio.run(main()) == "grouped"
assert current_task is not asyncio.current_task
"""
    )


def test_stock_loops_can_still_be_made():
    check(
        """
import asyncio, asynchrotron
asynchrotron.install()
loop = asyncio.SelectorEventLoop()
assert type(loop) is not asynchrotron.EventLoop

async def main():
    task = asyncio.create_task(asyncio.sleep(0, "on stock's loop"))
    fut = loop.create_future()
    loop.call_later(0.001, fut.set_result, "timer")
    return await task, await fut, asyncio.current_task() is not None

assert loop.run_until_complete(main()) == ("on stock's loop", "timer", True)
loop.close()
"""
    )


def test_a_policy_of_the_program_decides():
    if sys.version_info >= (3, 16):
        pytest.skip("no policies any more")
    check(
        """
import asyncio, warnings
warnings.simplefilter("ignore")
import asynchrotron

class Loop(asyncio.SelectorEventLoop):
    pass

class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return Loop()

asyncio.set_event_loop_policy(Policy())
asynchrotron.install()
async def kind():
    return type(asyncio.get_running_loop())
assert asyncio.run(kind()) is Loop
"""
    )


def test_the_policy_class():
    if sys.version_info >= (3, 16):
        assert not hasattr(__import__("asynchrotron"), "EventLoopPolicy")
        return
    check(
        """
import asyncio, warnings
warnings.simplefilter("ignore")
import asynchrotron
asyncio.set_event_loop_policy(asynchrotron.EventLoopPolicy())
async def kind():
    return type(asyncio.get_running_loop())
assert asyncio.run(kind()) is asynchrotron.EventLoop
loop = asyncio.new_event_loop()
assert type(loop) is asynchrotron.EventLoop
loop.close()
assert asyncio.Task.__module__ == "_asyncio"
"""
    )


def test_importing_alone_changes_no_name():
    check(
        """
import asyncio
deprecated = ("policy", "watcher")
before = {n: getattr(asyncio, n) for n in asyncio.__all__ if not any(d in n.lower() for d in deprecated)}
import asynchrotron
changed = {n for n, v in before.items() if getattr(asyncio, n) is not v}
# From 3.14 on the stdlib's gather and wait note by these who waits for whom, native futures included.
assert changed <= {"future_add_to_awaited_by", "future_discard_from_awaited_by"}, changed
async def kind():
    return type(asyncio.get_running_loop()).__module__
assert asyncio.run(kind()) == "asyncio.unix_events"
""",
        python=("-W", "ignore"),
    )


def test_run_and_runner_without_install():
    check(
        """
import asyncio, asynchrotron

async def main():
    return type(asyncio.get_running_loop()) is asynchrotron.EventLoop, asyncio.get_running_loop().get_debug()

assert asynchrotron.run(main()) == (True, False)
assert asynchrotron.run(main(), debug=True) == (True, True)
with asynchrotron.Runner() as runner:
    assert runner.run(main()) == (True, False)
with asynchrotron.Runner(debug=True) as runner:
    assert runner.run(main()) == (True, True)
with asyncio.Runner(loop_factory=asynchrotron.new_event_loop) as runner:
    assert runner.run(main())[0]
with asyncio.Runner(loop_factory=asynchrotron.EventLoop) as runner:
    assert runner.run(main())[0]
with asynchrotron.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
    assert not runner.run(main())[0]
"""
    )


@since(3, 12)
def test_loop_factories_of_run():
    check(
        """
import asyncio, asynchrotron
async def kind():
    return type(asyncio.get_running_loop())
assert asyncio.run(kind(), loop_factory=asynchrotron.new_event_loop) is asynchrotron.EventLoop
assert asynchrotron.run(kind(), loop_factory=asyncio.SelectorEventLoop) is asyncio.SelectorEventLoop
"""
    )


def test_imported_in_asyncios_place():
    check(
        """
import asynchrotron as asyncio
import asyncio as stock

async def child(queue, lock):
    async with lock:
        await asyncio.sleep(0)
        await queue.put(asyncio.current_task().get_name())

async def main():
    queue, lock, event = asyncio.Queue(), asyncio.Lock(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(child(queue, lock), name=f"t{n}")
    names = [queue.get_nowait() for _ in range(3)]
    try:
        async with asyncio.timeout(0.001):
            await event.wait()
    except TimeoutError:
        names.append("timeout")
    try:
        await asyncio.wait_for(event.wait(), 0.001)
    except asyncio.TimeoutError:
        names.append("wait_for")
    assert type(asyncio.get_running_loop()) is asyncio.EventLoop
    assert type(asyncio.current_task()) is not stock.Task
    return names + list(await asyncio.gather(asyncio.sleep(0, 1), asyncio.to_thread(int, "2")))

assert asyncio.run(main()) == ["t0", "t1", "t2", "timeout", "wait_for", 1, 2]
assert stock.Task.__module__ == "_asyncio"
"""
    )


def test_installed_in_threads_and_child_processes():
    check(
        """
import asyncio, asynchrotron, os, threading, warnings
# Since 3.12 fork() warns of other threads, and the kernel may count one for a moment after it was joined.
warnings.simplefilter("ignore", DeprecationWarning)
asynchrotron.install()
async def kind():
    await asyncio.sleep(0.001)
    return type(asyncio.get_running_loop()) is asynchrotron.EventLoop
answers = []
threads = [threading.Thread(target=lambda: answers.append(asyncio.run(kind()))) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
assert answers == [True] * 8
pid = os.fork()
if pid == 0:
    os._exit(0 if asyncio.run(kind()) else 1)
assert os.waitpid(pid, 0)[1] == 0
"""
    )


def test_the_debug_environment():
    assert program(
        "import asyncio, asynchrotron\nasynchrotron.install()\n"
        "async def main(): return asyncio.get_running_loop().get_debug()\nprint(asyncio.run(main()))",
        env={"PYTHONASYNCIODEBUG": "1"},
    ) == ["True"]


def test_a_platform_that_is_not_supported():
    done = run_python(["-c", "import sys; sys.platform = 'win32'\nimport asynchrotron"])
    assert done.status == 1
    assert done.err.strip().splitlines()[-1].startswith("ImportError: ")
    assert "Linux" in done.err


def test_functions_are_pickled_by_name():
    check(
        """
import asyncio, asynchrotron, copy, inspect, pickle
asynchrotron.install()
names = [name for name in asyncio.__all__ if inspect.iscoroutinefunction(getattr(asyncio, name))]
assert {"sleep", "to_thread", "wait", "wait_for", "open_connection", "start_server"} <= set(names)
for name in names:
    function = getattr(asyncio, name)
    assert pickle.loads(pickle.dumps(function)) is function, name
    assert copy.deepcopy(function) is copy.copy(function) is function, name
"""
    )


def test_access_to_names_is_specialised():
    """3.14's asyncio has a module-level __getattr__, for which its interpreter would specialise none of these."""
    lines = program(
        """
import asyncio, asynchrotron, dis
asynchrotron.install()

def access():
    asyncio.sleep, asynchrotron.sleep

for _ in range(1000):
    access()
for name in [at.opname for at in dis.get_instructions(access, adaptive=True) if at.opname.startswith("LOAD_ATTR")]:
    print(name)
"""
    )
    assert lines == ["LOAD_ATTR_MODULE"] * 2


POLICY_NAMES = """
import asyncio, asynchrotron, pickle, types, warnings
from asyncio import events, unix_events

kept = vars(asyncio)["__getattr__"]
for install in (asynchrotron.install, asynchrotron.uninstall):
    install()
    for module in (asyncio, asynchrotron):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert module.DefaultEventLoopPolicy is unix_events._DefaultEventLoopPolicy
            assert module.AbstractEventLoopPolicy is events._AbstractEventLoopPolicy
        assert [str(one.message) for one in caught] == [
            f"'asyncio.{name}EventLoopPolicy' is deprecated and slated for removal in Python 3.16"
            for name in ("Default", "Abstract")
        ]
        assert {one.filename for one in caught} == {"<string>"}
        for name in ("WindowsSelectorEventLoopPolicy", "nothing"):
            try:
                getattr(module, name)
            except AttributeError as error:
                assert str(error) == f"module {module.__name__!r} has no attribute {name!r}"
            else:
                raise AssertionError(name)
        assert "DefaultEventLoopPolicy" not in dir(module)
        module.DefaultEventLoopPolicy = 5
        assert module.DefaultEventLoopPolicy == 5
        del module.DefaultEventLoopPolicy
        assert isinstance(module, types.ModuleType)
    if install is asynchrotron.install and type(asyncio) is not types.ModuleType:
        # Whoever pickles functions with their globals finds a module's reduction by its exact type.
        assert pickle.loads(pickle.dumps(asyncio)) is asyncio
assert type(asyncio) is types.ModuleType
assert vars(asyncio)["__getattr__"] is kept
"""


@pytest.mark.skipif(not (3, 14) <= sys.version_info < (3, 16), reason="where asyncio's policies are behind a warning")
def test_the_names_of_policies():
    check(POLICY_NAMES)


def test_a_getattr_of_the_programs_own_stays():
    check(
        """
import asyncio, asynchrotron
asyncio.__getattr__ = lambda name: name.upper()
asynchrotron.install()
assert asyncio.anything == "ANYTHING"
asynchrotron.uninstall()
assert asyncio.anything == "ANYTHING"
"""
    )
