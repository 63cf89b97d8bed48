"""`python -m asynchrotron` against `python`: argv, __main__, sys.path, exit status, output and tracebacks are equal."""

import os
import re
import select
import signal
import subprocess
import sys
import termios
import textwrap
import time
import zipfile

import pytest
from worlds import PACKAGE_ROOT, Outcome, parity, run_python, since

IGNORED = re.compile(r"^(.*python[\w.]*): ", re.MULTILINE)  # the interpreter's own name in front of its messages


def launch(w, *args, python=(), **kwargs):
    """Run a program in this world: stock is plain python, the others go through `-m asynchrotron`."""
    if w.name in ("loop", "uvloop"):
        pytest.skip("a program chooses between stock and native only")
    way = [] if w.stock else ["-m", "asynchrotron"]
    done = run_python([*python, *way, *args], **kwargs)
    return Outcome(done.status, done.out, IGNORED.sub("PYTHON: ", done.err))


def code(source):
    return textwrap.dedent(source).strip() + "\n"


INTROSPECT = code(
    """
    import os, sys
    print(__name__, __package__, __spec__ is None or __spec__.name, __doc__)
    print("file", globals().get("__file__"), "cached", globals().get("__cached__"))
    print(sys.argv, repr(sys.path[0]))
    print(sys.modules["__main__"].__dict__ is globals())
    print(__loader__ if isinstance(__loader__, type) else type(__loader__).__name__)
    print(sorted(n for n in globals() if n not in ("os", "sys")), type(__builtins__).__name__)
    print(sys.flags.optimize, sys.flags.isolated, sys.flags.dev_mode, os.getcwd() == os.path.realpath("."))
    """
)

ENDINGS = {
    "nothing": "",
    "exit 0": "import sys; sys.exit(0)",
    "exit 3": "import sys; sys.exit(3)",
    "exit None": "import sys; sys.exit()",
    "exit True": "import sys; sys.exit(True)",
    "exit 256": "import sys; sys.exit(256)",
    "exit -1": "import sys; sys.exit(-1)",
    "exit text": "import sys; sys.exit('last words')",
    "exit object": "import sys; sys.exit(['a', 1])",
    "exit tuple": "raise SystemExit(1, 2)",
    "exit subclass": "class Leave(SystemExit): pass\nraise Leave(5)",
    "os._exit": "import os; print('x', flush=True); os._exit(9)",
    "exception": "print('before')\ndef f():\n    raise ValueError('inside f')\n\nf()",
    "chained": "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e",
    "context": "try:\n    1/0\nexcept ZeroDivisionError:\n    {}['k']",
    "notes": "e = ValueError('v')\ne.add_note('a note')\nraise e",
    "group": "raise ExceptionGroup('many', [ValueError(1), TypeError('t')])",
    "in a library": "import json\njson.loads('{')",
    "recursion": "import sys\nsys.tracebacklimit = 3\ndef f(): f()\nf()",
    "base exception": "raise BaseException('base')",
    "interrupt": "raise KeyboardInterrupt",
    "interrupt with text": "raise KeyboardInterrupt('by hand')",
    "generator exit": "raise GeneratorExit",
    "syntax error": "print('not reached')\ndef f(:\n    pass",
    "indentation": "if True:\npass",
    "null byte": "eval('1\\0')",
    "name error hint": "import asyncio\nasyncoi.run",
    "import error": "import no_such_module_anywhere",
    "excepthook": code(
        """
        import sys
        def hook(kind, value, tb):
            print('hook', kind.__name__, value)
            while tb is not None:
                print(tb.tb_frame.f_code.co_name, tb.tb_lineno)
                tb = tb.tb_next
        sys.excepthook = hook
        1 / 0
        """
    ),
    "excepthook fails": code(
        """
        import sys
        def hook(*a): raise KeyError('in hook')
        sys.excepthook = hook
        raise ValueError('v')
        """
    ),
    "atexit": "import atexit\natexit.register(print, 'at exit')\nraise ValueError('v')",
    "thread": code(
        """
        import threading, time
        threading.Thread(target=lambda: (time.sleep(.05), print('thread ends'))).start()
        print('main ends')
        """
    ),
    "thread fails": "import threading\nt = threading.Thread(target=lambda: 1/0, name='T')\nt.start()\nt.join()",
    "warning": "import warnings\nwarnings.warn('here', UserWarning)\nwarnings.warn('deprecated', DeprecationWarning)",
    "unraisable": "class A:\n    def __del__(self): raise ValueError('in del')\na = A()\ndel a",
    "del at exit": "class A:\n    def __del__(self): print('finalised')\na = A()",
    "future statement": "from __future__ import annotations\ndef f(x: nowhere): pass\nprint(f.__annotations__)",
    "no future of ours": "def f(x: int): pass\nprint(f.__annotations__)",
    "async traceback": code(
        """
        import asyncio
        async def inner():
            await asyncio.sleep(0)
            raise ValueError('inner')
        async def main():
            async with asyncio.timeout(5):
                await inner()
        asyncio.run(main())
        """
    ),
    "task traceback": code(
        """
        import asyncio
        async def child():
            raise ValueError('child')
        async def main():
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
        asyncio.run(main())
        """
    ),
    "never retrieved": code(
        """
        import asyncio, gc
        async def main():
            asyncio.get_running_loop().create_future().set_exception(ValueError('lost'))
            gc.collect()
        asyncio.run(main())
        """
    ),
    "callback fails": code(
        """
        import asyncio
        def boom(): 1/0
        async def main():
            asyncio.get_running_loop().call_soon(boom)
            await asyncio.sleep(0)
        asyncio.run(main())
        """
    ),
    "never awaited": "import asyncio\nasync def f(): pass\nf()",
    "async system exit": "import asyncio, sys\nasync def main():\n    sys.exit(4)\nasyncio.run(main())",
    "async interrupt": "import asyncio\nasync def main():\n    raise KeyboardInterrupt\nasyncio.run(main())",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
}

AS_FILES = ("exception", "syntax error", "exit 3", "null byte", "async traceback", "excepthook", "atexit", "unraisable")


def without_loop_frames(text):
    """Frames inside asyncio are an implementation's own: where a native loop has none, that is no difference."""
    text = re.sub(r"(?m)^(\s*\| ?)+", "", text)
    text = re.sub(r"0x[0-9a-f]+", "0x..", text)
    lines, keep, skipping = text.splitlines(), [], False
    for line in lines:
        stripped = line.strip()
        if stripped.startswith('File "'):
            skipping = "/asyncio/" in stripped or "/asynchrotron/" in stripped
        elif not line.startswith("    "):
            skipping = False
        if not skipping:
            keep.append(line)
    return keep


@parity
@pytest.mark.parametrize(("ending", "how"), [(e, "-c") for e in ENDINGS] + [(e, "file") for e in AS_FILES])
def test_how_programs_end(w, ending, how, tmp_path):
    source = ENDINGS[ending]
    if how == "-c":
        done = launch(w, "-c", source, "argument")
    else:
        path = tmp_path / "program.py"
        path.write_text(source)
        done = launch(w, str(path), "argument")
    assert "Fatal Python error" not in done.err
    return done.status, done.out, without_loop_frames(done.err)


@parity
@pytest.mark.parametrize("ending", ["exception", "in a library", "syntax error", "chained", "group"])
def test_tracebacks_are_equal_to_the_letter(w, ending, tmp_path):
    """No frame of ours on top, nothing normalised."""
    path = tmp_path / "program.py"
    path.write_text(ENDINGS[ending])
    done = launch(w, str(path))
    assert done.status == 1
    return done


@parity
@pytest.mark.parametrize("how", ["-c", "file", "relative file", "folder", "zip", "module", "package", "stdin", "pyc"])
def test_what_a_program_sees(w, how, tmp_path):
    arguments = ("one", "-x", "--long=1", "")
    if how == "-c":
        return launch(w, "-c", INTROSPECT, *arguments, cwd=tmp_path)
    if how == "stdin":
        return launch(w, "-", *arguments, cwd=tmp_path, stdin=INTROSPECT)
    if how in ("file", "relative file"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        path = tmp_path / "sub" / "program.py"
        path.write_text('"""Its doc."""\n' + INTROSPECT)
        return launch(w, str(path) if how == "file" else "./sub/../sub/program.py", *arguments, cwd=tmp_path)
    if how == "pyc":
        import py_compile

        source = tmp_path / "program.py"
        source.write_text(INTROSPECT)
        compiled = py_compile.compile(str(source), str(tmp_path / "program.pyc"))
        return launch(w, compiled, *arguments, cwd=tmp_path)
    if how == "folder":
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        (folder / "__main__.py").write_text(INTROSPECT)
        return launch(w, str(folder), *arguments, cwd=tmp_path)
    if how == "zip":
        path = tmp_path / "program.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("__main__.py", INTROSPECT)
        return launch(w, str(path), *arguments, cwd=tmp_path)
    if how == "module":
        (tmp_path / "some_module.py").write_text(INTROSPECT)
        return launch(w, "-m", "some_module", *arguments, cwd=tmp_path)
    package = tmp_path / "some_package"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("print('imported')\n")
    (package / "__main__.py").write_text(INTROSPECT)
    return launch(w, "-m", "some_package", *arguments, cwd=tmp_path)


@parity
@pytest.mark.parametrize("name", [".", "./", "", "../folder", "empty"])
def test_names_of_folders(w, name, tmp_path):
    """`python .` in a project's folder; one without a `__main__` is named as python names it."""
    folder = tmp_path / "folder"
    (folder / "empty").mkdir(parents=True, exist_ok=True)
    (folder / "__main__.py").write_text(INTROSPECT)
    done = launch(w, name, "argument", cwd=folder)
    return done, launch(w, name, cwd=folder / "empty").err


@parity
@pytest.mark.parametrize("how", ["file", "relative file"])
def test_a_current_folder_that_was_deleted(w, how, tmp_path):
    """A service may be started from anywhere; a program given by its whole name runs."""
    path, gone = tmp_path / "program.py", tmp_path / "gone"
    path.write_text("import sys\nprint(__file__, sys.argv, sys.path[0])\n")
    gone.mkdir()
    way = [] if w.stock else ["-m", "asynchrotron"]
    command = ["sh", "-c", 'cd "$1" && rmdir "$1" && shift && exec "$@"', "sh", gone, sys.executable, *way]
    command.append(str(path) if how == "file" else "program.py")
    if w.name in ("loop", "uvloop"):
        pytest.skip("a program chooses between stock and native only")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, IGNORED.sub("PYTHON: ", done.stderr)


@parity
def test_programs_in_links_and_pipes(w, tmp_path):
    """A link's target says where the program's folder is; a pipe, as in `python <(make program)`, has no target."""
    (tmp_path / "real").mkdir(exist_ok=True)
    (tmp_path / "real" / "program.py").write_text(INTROSPECT)
    link = tmp_path / "link.py"
    if not link.is_symlink():
        link.symlink_to("real/program.py")
    piped = launch(w, "/dev/stdin", "argument", cwd=tmp_path, stdin=INTROSPECT)
    return launch(w, "link.py", "argument", cwd=tmp_path), piped


@parity
@pytest.mark.parametrize(
    "args",
    [
        ("/no/such/file.py",),
        ("-m", "no_such_module_anywhere"),
        ("-m", "json"),
        ("-m", "json.no_such"),
        ("-m", "json.tool", "--no-such-option"),
        ("/",),
        ("-m", "timeit", "-n", "1", "-r", "1", "no_such_name"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_run(w, args):
    done = launch(w, *args)
    err = re.sub(r"PYTHON: |^.*?: (?=can't|No module)", "", done.err)
    return done.status, done.out, err


@parity
@pytest.mark.parametrize(
    "python", [(), ("-O",), ("-X", "dev"), ("-W", "error"), ("-u",), ("-P",), ("-B",)], ids=" ".join
)
def test_interpreter_options(w, python):
    source = (
        "import sys, asyncio, warnings; print(sys.flags.optimize, sys.flags.dev_mode, sys.path[0], sys.warnoptions);"
        "loop = asyncio.new_event_loop(); print(loop.get_debug()); loop.close()"
    )
    return launch(w, "-c", source, python=python, cwd="/")


@parity
@pytest.mark.parametrize("ending", ["exit 3", "exit text", "exception"])
def test_what_goes_on_interactively_shows_the_program_only(w, ending, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(ENDINGS[ending])
    done = launch(w, str(path), python=("-i", "-q"), stdin="import sys; print('on', sys.last_value is not None)\n")
    assert "on True" in done.out
    return done


@parity
def test_standard_input_and_output(w):
    source = "import sys; print(sys.stdin.read()[::-1]); print('err', file=sys.stderr)"
    return launch(w, "-c", source, stdin="some text\nof two lines")


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        (("-m", "cProfile", "-m"), "function calls"),
        (("-m", "trace", "--listfuncs", "--module"), "functions called:"),
        (
            ("-c", "import runpy; runpy.run_module('asynchrotron', run_name='__main__'); print('tool goes on')"),
            "goes on",
        ),
    ],
    ids=["cProfile", "trace", "runpy"],
)
def test_inside_a_tool(world, tool, said, tmp_path):
    """A tool that runs `asynchrotron` as its program keeps its own `__main__`, which the program does not see."""
    if world.name != "native":
        pytest.skip("about `python -m asynchrotron`")
    path = tmp_path / "program.py"
    path.write_text("import asyncio, pickle\nclass Thing: pass\npickle.loads(pickle.dumps(Thing()))\n" + INTROSPECT)
    tool = tool if tool[0] == "-c" else (*tool, "asynchrotron")
    done = run_python([*tool, str(path), "argument"], cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert f"file {path} cached None\n['{path}', 'argument'] '{tmp_path}'\nTrue\n" in done.out
    assert said in done.out


@parity
def test_main_can_be_pickled_and_spawned(w, tmp_path):
    """multiprocessing's spawn imports the program again under another name; pickle finds classes in __main__."""
    path = tmp_path / "program.py"
    path.write_text(
        code(
            """
            import asyncio, multiprocessing, pickle, concurrent.futures

            class Thing:
                def __init__(self, value): self.value = value

            def work(thing): return thing.value * 2

            async def main():
                loop = asyncio.get_running_loop()
                context = multiprocessing.get_context("spawn")
                with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                    return await loop.run_in_executor(pool, work, Thing(21))

            if __name__ == "__main__":
                print(pickle.loads(pickle.dumps(Thing(1))).value)
                print(asyncio.run(main()))
            """
        )
    )
    done = launch(w, str(path))
    assert done.out == "1\n42\n"
    return done


@parity
def test_programs_with_several_runs(w):
    source = code(
        """
        import asyncio, contextlib, threading
        async def main(n):
            await asyncio.sleep(0)
            return n
        print([asyncio.run(main(n)) for n in range(3)])
        with asyncio.Runner() as runner:
            print(runner.run(main(5)))
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        print(loop.run_until_complete(main(6)))
        loop.close()
        thread = threading.Thread(target=lambda: print(asyncio.run(main(7))))
        thread.start(); thread.join()
        """
    )
    done = launch(w, "-c", source)
    assert done.status == 0
    return done


@parity
@since(3, 14)
def test_indented_code(w):
    return launch(w, "-c", "\n    print('indented')\n    x = 1\n    print(x)\n")


@parity
def test_interrupted_from_outside(w):
    """A program that a signal ends looks the same to its parent."""
    done = launch(w, "-c", "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)")
    assert done.status == -signal.SIGINT
    return done.status, done.err.splitlines()[-1]


def test_programs_get_the_native_loop(world):
    if world.name != "native":
        pytest.skip("about `python -m asynchrotron`")
    source = code(
        """
        import asyncio, sys
        async def main():
            task = asyncio.current_task()
            fut = asyncio.get_running_loop().create_future()
            loop = asyncio.get_running_loop()
            print(type(loop).__module__.split(".")[0], type(task).__module__, type(fut).__module__)
        asyncio.run(main())
        """
    )
    done = launch(world, "-c", source)
    assert done.err == ""
    assert done.out == "asynchrotron asynchrotron._core asynchrotron._core\n"
    assert sys.modules["asyncio"].Task.__module__ == "_asyncio"


def test_usage_and_version(world):
    if world.name != "native":
        pytest.skip("about `python -m asynchrotron`")
    assert launch(world, "--help").out.startswith("usage: ")
    assert launch(world, "--version").out.startswith("asynchrotron ")
    assert launch(world, "--no-such-option").status == 2
    assert launch(world, "-c").status == 2


def test_the_repl_awaits_at_top_level(world):
    if world.name != "native":
        pytest.skip("about `python -m asynchrotron`")
    done = launch(
        world,
        stdin="import asyncio\nawait asyncio.sleep(0, 'slept')\ntype(asyncio.get_running_loop()).__module__\n1/0\n",
    )
    text = done.out + done.err
    assert "slept" in text
    assert "asynchrotron" in text
    assert "ZeroDivisionError" in text


class Terminal:
    """A program that sits at a terminal of its own."""

    def __init__(self, args):
        keys, screen = os.openpty()
        settings = termios.tcgetattr(screen)
        settings[3] &= ~termios.ECHO  # when a line comes back depends on who has the terminal at the moment
        termios.tcsetattr(screen, termios.TCSANOW, settings)
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONASYNCIODEBUG", "PYTHONSTARTUP")}
        environment |= {
            "TERM": "dumb",
            "PYTHON_BASIC_REPL": "1",
            "PYTHON_HISTORY": os.devnull,
            "PYTHONPATH": PACKAGE_ROOT,
        }
        self.child = subprocess.Popen(
            [sys.executable, *args], stdin=screen, stdout=screen, stderr=screen, env=environment, start_new_session=True
        )
        os.close(screen)
        self.keys = keys

    def read(self, mark):
        """Everything up to `mark`."""
        text, deadline = "", time.monotonic() + 15
        while not text.endswith(mark):
            assert select.select([self.keys], [], [], deadline - time.monotonic())[0], text
            text += os.read(self.keys, 1).decode().replace("\r", "")
        return text

    def type(self, line):
        os.write(self.keys, line.encode() + b"\n")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.child.kill()
        self.child.wait()
        os.close(self.keys)


@parity
def test_the_repl_at_a_terminal(w):
    """Prompts, answers, tracebacks and Ctrl-C of `python -m asyncio`; the same at the end of `-m asynchrotron`."""
    if w.name in ("loop", "uvloop"):
        pytest.skip("a program chooses between stock and native only")
    with Terminal(["-m", "asyncio" if w.stock else "asynchrotron"]) as terminal:
        assert "asyncio REPL" in terminal.read("import asyncio\n>>> ")
        trace = []
        for line in (
            "await asyncio.sleep(0.001, 'slept')",
            "x = 5",
            "import threading; threading.current_thread().name",
            "asyncio.get_running_loop().is_running(), asyncio.current_task() is None",
            "task = asyncio.create_task(asyncio.sleep(0, x))",
            "await task",
            "_ = asyncio.get_running_loop().call_soon(print, 'from a callback'); await asyncio.sleep(0.001)",
        ):
            terminal.type(line)
            trace.append(terminal.read(">>> "))
        for line in ("1/0", "await asyncio.wait_for(asyncio.sleep(10), 0.001)"):
            terminal.type(line)
            trace.append(terminal.read(">>> ").splitlines()[-2:])  # which frames of asyncio's show is a matter of luck
        terminal.type("print('rea' + 'dy'); await asyncio.sleep(100)")
        terminal.read("ready\n")
        time.sleep(0.2)  # so that it waits already
        terminal.child.send_signal(signal.SIGINT)
        trace.append(terminal.read(">>> "))
        terminal.type("x")
        trace.append(terminal.read(">>> "))
        terminal.type("exit(3)")
        return trace, terminal.child.wait(10)
