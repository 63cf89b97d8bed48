"""python on_factory.py MODULE:FACTORY program.py ARGUMENTS: run an unmodified program on another project's loop.

Programs that call asyncio.run() without saying which loop take the policy's, so the policy makes the factory's.
"""

import asyncio
import importlib
import runpy
import sys
import warnings
from typing import Any


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    factory = getattr(importlib.import_module(module), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # policies, from 3.14 on
        base: Any = asyncio.DefaultEventLoopPolicy

        class Policy(base):  # type: ignore[misc]
            def new_event_loop(self) -> Any:
                return factory()

        asyncio.set_event_loop_policy(Policy())
    del sys.argv[:2]
    sys.path[0] = sys.argv[0].rpartition("/")[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
