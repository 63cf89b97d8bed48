"""python on_loop.py MODULE:FACTORY FILE: run the main() of a program on a loop made by FACTORY.

Only the loop is exchanged. The program is loaded as a module, so its own asyncio.run does
not happen; nothing else of asyncio is touched.
"""

import asyncio
import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType


def load_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    module, _, attribute = name.partition(":")
    factory: Callable[[], asyncio.AbstractEventLoop] = getattr(importlib.import_module(module), attribute)
    return factory


def load_program(path: str) -> ModuleType:
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    # An ordinary import: dataclasses, pickle and process pools look modules up by name.
    return importlib.import_module(os.path.splitext(os.path.basename(path))[0])


if __name__ == "__main__":
    loop_factory = load_factory(sys.argv[1])
    program = load_program(sys.argv[2])
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(program.main())
