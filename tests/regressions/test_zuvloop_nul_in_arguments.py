"""A NUL in a program's name, argument, directory or environment is a ValueError; nothing is cut off or started.

zuvloop#59
"""

import pytest


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        (["/bin/true\0x"], {}),
        (["/bin/true", "a\0b"], {}),
        ([b"/bin/true", b"a\0b"], {}),
        (["/bin/true"], {"cwd": "/\0"}),
        (["/bin/true"], {"env": {"A": "b\0c"}}),
        (["/bin/true"], {"executable": "/bin/true\0"}),
    ],
)
def test_refused(world, arguments, keywords):
    async def main():
        with pytest.raises(ValueError, match="embedded null"):
            await world.aio.create_subprocess_exec(*arguments, stdout=-1, **keywords)

    world.run(main)
