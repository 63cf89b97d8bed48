"""`python -m asynchrotron [-m module | -c code | file | -] args…`: install(), then run a program as python would.

The program runs in the real `__main__` module, not in a copy of it: threads, atexit functions, pickle and
multiprocessing look there. If it fails, our frames are taken off the traceback; everything else (exit status, signals,
excepthook, -i) is left to the interpreter, which sees the exception arrive as always.
"""

import builtins
import contextlib
import io
import os
import runpy
import sys
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn

USAGE = """\
usage: python [python options] -m asynchrotron [-m module | -c code | file | -] [args...]

Run a program on the asynchrotron event loop. The program is not changed: its asyncio is native.

  file       a script, a .pyc file, or a folder or zip file with a __main__.py
  -m module  a module or package, as python -m does
  -c code    a program given as text
  -          a program read from standard input
  (nothing)  the asyncio REPL, with top-level await

  -h, --help     show this and exit
  -V, --version  show the versions and exit

Options for the interpreter (-X dev, -W error, -i, ...) come before -m asynchrotron.
"""


def main() -> None:
    """Run what the command line says. This is the whole of `python -m asynchrotron`."""
    before = sys.modules["__main__"]
    if getattr(getattr(before, "__spec__", None), "name", None) == f"{__package__}.__main__":
        _run_command_line()
        return
    # A tool runs us inside itself, `python -m cProfile -m asynchrotron …`, and goes on afterwards.
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        _run_command_line()
    finally:
        sys.modules["__main__"] = before


def _run_command_line() -> None:
    args = sys.argv[1:]
    run: Callable[[], None]
    if not args:
        run = _prepare_repl()
    else:
        option, value, rest = _split(args)
        if option == "-h":
            print(USAGE, end="")
            return
        if option == "-V":
            from . import __version__

            print(f"asynchrotron {__version__} ({sys.implementation.name} {sys.version.split()[0]})")
            return
        if option == "-m":
            run = _prepare_module(value, rest)
        elif option == "-c":
            run = _prepare_code(value, rest)
        elif value == "-":
            run = _prepare_stdin(rest)
        else:
            run = _prepare_file(value, rest)

    from .install import install

    install()
    _execute(run)


def _split(args: list[str]) -> tuple[str, str, list[str]]:
    """Take the first option or the program's name off the arguments; the rest is the program's own."""
    first, rest = args[0], args[1:]
    if first in ("-h", "--help"):
        return "-h", "", rest
    if first in ("-V", "--version"):
        return "-V", "", rest
    if first[:2] in ("-m", "-c"):
        # Like python, take "-mjson.tool" as well as "-m json.tool".
        if len(first) > 2:
            return first[:2], first[2:], rest
        if not rest:
            _usage_error(f"argument expected for the {first} option")
        return first, rest[0], rest[1:]
    if first == "--" and rest:
        first, rest = rest[0], rest[1:]
    elif first.startswith("-") and first != "-":
        _usage_error(f"unknown option {first} (python's own options come before -m asynchrotron)")
    return "", first, rest


def _usage_error(message: str) -> NoReturn:
    print(f"asynchrotron: {message}\n{USAGE.splitlines()[0]}", file=sys.stderr)
    raise SystemExit(2)


# What each kind of program finds in sys.argv, sys.path and __main__ follows pymain_run_python() in Modules/main.c and
# _PyRun_SimpleFile() in Python/pythonrun.c.


def _prepare_repl() -> Callable[[], None]:
    _reset_main()
    return lambda: runpy._run_module_as_main("asyncio")  # type: ignore[attr-defined]


def _prepare_module(name: str, rest: list[str]) -> Callable[[], None]:
    sys.argv = ["-m", *rest]
    _reset_main()
    # sys.path[0] is the current folder already: that is how we were started, too.
    sys.audit("cpython.run_module", name)
    return lambda: runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _prepare_code(source: str, rest: list[str]) -> Callable[[], None]:
    sys.argv = ["-c", *rest]
    _set_path0("")
    namespace = _reset_main()
    sys.audit("cpython.run_command", source)

    def run() -> None:
        text = source
        if sys.version_info >= (3, 14):
            import textwrap

            text = textwrap.dedent(text)
        code = compile(text, "<string>", "exec", dont_inherit=True)
        if sys.version_info >= (3, 13):
            _remember_source(code, text)
        exec(code, namespace)

    return run


def _prepare_stdin(rest: list[str]) -> Callable[[], None]:
    if sys.stdin is not None and sys.stdin.isatty():
        sys.argv = ["-", *rest]
        return _prepare_repl()
    sys.argv = ["-", *rest]
    _set_path0("")
    namespace = _reset_main()
    namespace["__file__"] = "<stdin>"
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None
    sys.audit("cpython.run_stdin")

    def run() -> None:
        source = sys.stdin.buffer.read() if sys.stdin is not None else b""
        exec(compile(source, "<stdin>", "exec", dont_inherit=True), namespace)

    return run


def _prepare_file(name: str, rest: list[str]) -> Callable[[], None]:
    sys.argv = [name, *rest]
    path = _absolute(name)
    if _has_importer(path):
        # A folder or a zip file: its __main__ module is the program.
        sys.audit("cpython.run_file", path)
        _set_path0(path, even_if_safe=True)
        _reset_main()
        return lambda: runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
    _set_path0(_folder(name))
    namespace = _reset_main()
    sys.audit("cpython.run_file", path)
    namespace["__file__"] = path
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None

    if path.endswith(".pyc"):
        sourceless = SourcelessFileLoader("__main__", path)
        namespace["__loader__"] = sourceless
        source = b""
        _read_program(path)
    else:
        sourceless = None
        namespace["__loader__"] = SourceFileLoader("__main__", path)
        source = _read_program(path)

    def run() -> None:
        if sourceless is not None:
            try:
                code = sourceless.get_code("__main__")
            except ImportError:
                raise RuntimeError("Bad magic number in .pyc file") from None
            assert code is not None  # The file was read a moment ago.
        else:
            code = compile(source, path, "exec", dont_inherit=True)
        exec(code, namespace)

    return run


def _absolute(name: str) -> str:
    # Not os.path.abspath(): python leaves "." and ".." in the name as they are, but for a name that is nothing else.
    if os.path.isabs(name):
        return name
    try:
        folder = os.getcwd()
    except OSError:
        return name  # The current folder was deleted.
    return os.path.join(folder, name) if name not in ("", ".") else folder


def _folder(name: str) -> str:
    # As python: what a link says, then the real name if there is one. A pipe (/dev/stdin, /dev/fd/63) has none.
    with contextlib.suppress(OSError):
        link = os.readlink(name)
        if "/" in link:
            name = os.path.join(os.path.dirname(name), link)
    with contextlib.suppress(OSError):
        name = os.path.realpath(name, strict=True)
    return os.path.dirname(name)


def _has_importer(path: str) -> bool:
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def _read_program(path: str) -> bytes:
    try:
        with io.open_code(path) as file:
            return file.read()
    except OSError as exc:
        print(f"{sys.orig_argv[0]}: can't open file {path!r}: [Errno {exc.errno}] {exc.strerror}", file=sys.stderr)
        raise SystemExit(2) from None


def _set_path0(path: str, *, even_if_safe: bool = False) -> None:
    """Put the program's own folder where python put the current one when it found `-m asynchrotron`."""
    if not sys.flags.safe_path:
        if sys.path:
            sys.path[0] = path
        else:
            sys.path.append(path)
    elif even_if_safe:
        sys.path.insert(0, path)


def _reset_main() -> dict[str, Any]:
    """Give `__main__` the contents it has before python runs anything in it."""
    namespace = vars(sys.modules["__main__"])
    namespace.clear()
    namespace.update(__name__="__main__", __doc__=None, __package__=None, __loader__=BuiltinImporter, __spec__=None)
    if sys.version_info < (3, 14):
        namespace["__annotations__"] = {}
    namespace["__builtins__"] = builtins
    return namespace


def _remember_source(code: CodeType, text: str) -> None:
    # From 3.13 on, tracebacks show the lines of a -c program. The function is private and may go away.
    import linecache

    register = getattr(linecache, "_register_code", None)
    if register is not None:
        register(code if sys.version_info >= (3, 14) else "<string>", text, "<string>")


def _execute(run: Callable[[], None]) -> None:
    try:
        run()
    except SystemExit as exc:
        # With -i the interpreter reports this one, too, and goes on.
        if sys.flags.inspect or os.environ.get("PYTHONINSPECT"):
            _hide_our_frames(exc)
        raise
    except BaseException as exc:
        _hide_our_frames(exc)
        raise


def _hide_our_frames(exc: BaseException) -> None:
    """Arrange for the interpreter's report of this exception to begin with the program's own frames."""
    excepthook = sys.excepthook

    def report(kind: type[BaseException], value: BaseException, tb: TracebackType | None) -> None:
        sys.excepthook = excepthook
        if value is exc:
            tb = _below_ours(tb)
            value.__traceback__ = tb
            sys.last_traceback = tb
        excepthook(kind, value, tb)

    sys.excepthook = report


def _below_ours(tb: TracebackType | None) -> TracebackType | None:
    innermost = None
    entry = tb
    while entry is not None:
        if entry.tb_frame.f_globals is globals():
            innermost = entry
        elif innermost is not None:
            break
        entry = entry.tb_next
    return innermost.tb_next if innermost is not None else tb
