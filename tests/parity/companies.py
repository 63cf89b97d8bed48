"""Whose loop and whose tasks a body runs with, beside what its world says."""

import asyncio
import dataclasses

import pytest
import worlds
from worlds import World

OWN, OTHER = "own loop", "asyncio's loop"
LOOPS = [OWN, OTHER]
MIXED = ["stock loop", "stock loop, our tasks", "our loop, C tasks"]


def place(w, where):
    """The world, or the same with the stdlib's loop."""
    return w if where == OWN else dataclasses.replace(w, new_event_loop=asyncio.new_event_loop)


def mixed_world(where):
    """Our names with a loop or tasks that are not ours."""
    if worlds.IMPORT_ERROR is not None:
        pytest.skip("asynchrotron cannot be imported")
    ours = worlds.WORLDS["native"].aio

    def new_event_loop():
        loop = ours.new_event_loop() if where == "our loop, C tasks" else asyncio.new_event_loop()
        if where != "stock loop":
            task = asyncio.Task if where == "our loop, C tasks" else ours.Task
            loop.set_task_factory(lambda loop, coro, **kwargs: task(coro, loop=loop, **kwargs))
        return loop

    return World("foreign", ours, new_event_loop, "")
