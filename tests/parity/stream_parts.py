"""What the tests of readers and writers without a connection share."""

import asyncio
import contextlib

from worlds import Generations, error, normal


def reader_of(w, loop, **kwargs):
    return w.aio.StreamReader(loop=loop, **kwargs)


class Pipe(asyncio.Transport):
    """A transport that writes down what it is asked; no socket behind it."""

    def __init__(self, log, *, pauses=True):
        super().__init__()
        self.log, self.pauses, self.closing = log, pauses, False

    def pause_reading(self):
        if not self.pauses:
            raise NotImplementedError
        self.log.append("pause")

    def resume_reading(self):
        self.log.append("resume")

    def write(self, data):
        self.log.append(("write", bytes(data)))

    def writelines(self, data):
        self.log.append(("writelines", list(data)))

    def write_eof(self):
        self.log.append("eof")
        return "answer"

    def can_write_eof(self):
        return "perhaps"

    def is_closing(self):
        return self.closing

    def close(self):
        self.log.append("close")
        self.closing = True
        return "closed"

    def abort(self):
        self.log.append("abort")

    def __repr__(self):
        return "<Pipe>"


def fed_by_hand(w, scene, *, debug=False, errors=None, **kwargs):
    """Run `scene(loop, reader, note)` on a fresh loop; notes carry the number of the turn."""

    async def main():
        loop = w.aio.get_running_loop()
        turns = Generations(loop)
        reader = reader_of(w, loop, **kwargs)
        answer = await scene(loop, reader, turns)
        return turns.log, answer, normal(repr(reader))

    return w.run(main, debug=debug, errors=errors)


async def noted(note, name, awaitable):
    try:
        note((name, await awaitable))
    except BaseException as exc:
        note((name, error(exc)))
        raise


def background(w, note, name, awaitable):
    async def run():
        with contextlib.suppress(Exception):
            await noted(note, name, awaitable)

    return w.aio.get_running_loop().create_task(run())
