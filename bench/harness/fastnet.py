"""Loops whose connections are aiofastnet's."""

import asyncio

import aiofastnet


def asyncio_loop() -> asyncio.AbstractEventLoop:
    return aiofastnet.patch_loop(asyncio.new_event_loop())


def uvloop_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return aiofastnet.patch_loop(uvloop.new_event_loop())
