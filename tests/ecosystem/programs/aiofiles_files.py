"""aiofiles: text and binary files, lines, seeking, temporary files, the os functions, a hundred files at once."""

import asyncio
import os
import tempfile
from pathlib import Path

import aiofiles
import aiofiles.os
import aiofiles.tempfile

from outcome import report


async def use_one(path: Path, line_count: int) -> None:
    lines = [f"line {number} ü\n" for number in range(line_count)]
    async with aiofiles.open(path, "w", encoding="utf-8") as file:
        await file.writelines(lines)
    async with aiofiles.open(path, encoding="utf-8") as file:
        assert [line async for line in file] == lines
    async with aiofiles.open(path, encoding="utf-8") as file:
        assert await file.readline() == lines[0]
        assert "".join([lines[0], await file.read()]) == "".join(lines)

    blob = os.urandom(1_000_000)
    async with aiofiles.open(path, "w+b") as binary:
        assert await binary.write(blob) == len(blob)
        await binary.seek(500_000)
        assert await binary.read(1000) == blob[500_000:501_000]
        assert await binary.tell() == 501_000
        await binary.truncate(10)
        await binary.flush()
    assert path.read_bytes() == blob[:10]


async def use_os(directory: Path) -> None:
    await aiofiles.os.makedirs(directory / "a" / "b")
    async with aiofiles.open(directory / "a" / "b" / "c", "w") as file:
        await file.write("x" * 100)
    assert (await aiofiles.os.stat(directory / "a" / "b" / "c")).st_size == 100
    await aiofiles.os.rename(directory / "a" / "b" / "c", directory / "a" / "d")
    assert sorted(await aiofiles.os.listdir(directory / "a")) == ["b", "d"]
    await aiofiles.os.remove(directory / "a" / "d")
    assert not await aiofiles.os.path.exists(directory / "a" / "d")


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        await use_one(directory / "one", 1000)
        await use_os(directory)
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(use_one(directory / str(number), 30))

        async with aiofiles.tempfile.TemporaryDirectory() as inner:
            async with aiofiles.tempfile.NamedTemporaryFile("w+", dir=inner) as file:
                await file.write("temporary")
                await file.seek(0)
                assert await file.read() == "temporary"
        assert not os.path.exists(inner)

        try:
            async with aiofiles.open(directory / "nowhere"):
                pass
        except FileNotFoundError:
            pass
        else:
            raise AssertionError("a file that does not exist was opened")
    report("aiofiles: 105 files")


if __name__ == "__main__":
    asyncio.run(main())
