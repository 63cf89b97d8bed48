"""EventLoopPolicy, for programs that still set one. Python 3.16 has no policies; install() does without.

From 3.14 on, asyncio makes its own policies' public names only when somebody asks for them, to warn. It does so with a
module-level `__getattr__` (PEP 562), and for a module that has one 3.14's interpreter specialises no access at all:
every `asyncio.sleep` in a program is a full look-up, 240 instructions instead of 15. `WarningModule` answers for the
same names by descriptors of the module's class, which the interpreter does not mind.
"""

import sys
import warnings
from asyncio import events, unix_events
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .loop import EventLoop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    class _DefaultPolicyBase:
        """What asyncio's policies offer; the stubs do not have the class under its lasting name."""

        def get_event_loop(self) -> AbstractEventLoop: ...
        def set_event_loop(self, loop: AbstractEventLoop | None) -> None: ...
        def new_event_loop(self) -> AbstractEventLoop: ...

else:
    # asyncio.DefaultEventLoopPolicy by the name that warns of nothing.
    _DefaultPolicyBase = unix_events._UnixDefaultEventLoopPolicy


class EventLoopPolicy(_DefaultPolicyBase):
    """The default policy of asyncio, with our event loop."""

    _loop_factory = EventLoop


class _PolicyName:
    """A name that warns whoever asks for it. No data descriptor: what a program sets there itself is what it finds."""

    def __init__(self, name: str, module: ModuleType) -> None:
        self._name = name
        self._module = module

    def __get__(self, module: ModuleType | None, owner: type | None = None) -> Any:
        if module is None:
            return self
        # Shows the line of whoever called this function.
        deprecated: Any = warnings
        deprecated._deprecated(f"asyncio.{self._name}", remove=(3, 16))
        return getattr(self._module, f"_{self._name}")


class WarningModule(ModuleType):
    """A module without `__getattr__` that has asyncio's policies as asyncio has them from 3.14 to 3.15."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Those who pickle functions with their globals know modules by their exact type.
        return import_module, (self.__name__,)


if (3, 14) <= sys.version_info < (3, 16):
    for _name, _module in ("AbstractEventLoopPolicy", events), ("DefaultEventLoopPolicy", unix_events):
        setattr(WarningModule, _name, _PolicyName(_name, _module))
