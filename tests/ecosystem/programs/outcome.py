"""How a program tells what it did: one line, ending with the class of the loop it ran on."""

import asyncio


def report(text: str) -> None:
    loop = type(asyncio.get_running_loop())
    print(f"{text} on {loop.__module__}.{loop.__qualname__}", flush=True)
