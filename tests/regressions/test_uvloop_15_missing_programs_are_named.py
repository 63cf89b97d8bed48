"""A missing executable raises FileNotFoundError with .filename set; so does a missing directory."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "keywords", "name"),
    [
        (["no-such-program"], {}, "no-such-program"),
        (["/no/such/program", "x"], {}, "/no/such/program"),
        (["/bin/true"], {"cwd": "/no/such/folder"}, "/no/such/folder"),
        (["/bin/true"], {"executable": "/no/such/executable"}, "/no/such/executable"),
    ],
)
def test_filename(world, arguments, keywords, name):
    async def main():
        with pytest.raises(FileNotFoundError) as caught:
            await world.aio.create_subprocess_exec(*arguments, stdin=-1, stdout=-1, stderr=-1, **keywords)
        return caught.value.filename

    assert world.run(main) == name


def test_through_the_loop(world):
    async def main():
        loop = world.aio.get_running_loop()
        with pytest.raises(FileNotFoundError) as caught:
            await loop.subprocess_exec(world.aio.SubprocessProtocol, "no-such-program")
        return caught.value.filename

    assert world.run(main) == "no-such-program"
