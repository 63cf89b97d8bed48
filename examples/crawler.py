"""Fetch every file a server's manifest lists, store them, and check the SHA-256 of what was stored.

One task per file, a semaphore to bound how many run at once, and a queue to the tasks that read each file back
from the disk and hash it. Exit status: 0 everything matches, 1 something does not, 2 it could not be fetched.
"""

import argparse
import asyncio
import hashlib
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiofiles
import aiohttp
from tqdm import tqdm
from yarl import URL

CHUNK_SIZE = 64 * 1024
FILE_TIMEOUT_SECONDS = 30
VERIFIERS = 4
MISMATCHES_SHOWN = 20


class CrawlError(Exception):
    """The server could not be asked, or answered with something that cannot be used."""


@dataclass(frozen=True)
class Entry:
    path: str
    size: int
    sha256: str
    destination: Path


@dataclass
class Outcome:
    files: int = 0
    bytes: int = 0
    mismatches: list[str] = field(default_factory=list)


def read_manifest(document: Any, directory: Path) -> list[Entry]:
    """Check what the server sent: its paths are about to become file names here."""
    root = directory.resolve()
    entries = []
    try:
        for item in document["files"]:
            path, size, sha256 = item["path"], item["size"], item["sha256"]
            destination = (root / path).resolve()
            if destination == root or not destination.is_relative_to(root):
                raise CrawlError(f"the manifest names a file outside the output directory: {path!r}")
            entries.append(Entry(path, size, sha256, destination))
    except (KeyError, TypeError) as error:
        raise CrawlError(f"the manifest cannot be understood: {error!r}") from error
    return entries


class Crawler:
    def __init__(self, session: aiohttp.ClientSession, directory: Path, concurrency: int) -> None:
        self.session = session
        self.directory = directory
        self.gate = asyncio.Semaphore(concurrency)
        # Bounded, so that a slow disk holds the downloads back.
        self.stored: asyncio.Queue[Entry | None] = asyncio.Queue(maxsize=2 * concurrency)
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        async with asyncio.timeout(FILE_TIMEOUT_SECONDS):
            async with self.session.get("manifest.json") as response:
                response.raise_for_status()
                entries = read_manifest(await response.json(), self.directory)

        # No progress bar when stderr is not a terminal.
        with tqdm(total=len(entries), unit=" files", disable=None, leave=False) as progress:
            async with asyncio.TaskGroup() as verifiers:
                for _ in range(VERIFIERS):
                    verifiers.create_task(self.verify_stored(progress))
                async with asyncio.TaskGroup() as fetchers:
                    for entry in entries:
                        fetchers.create_task(self.fetch(entry), name=f"fetch {entry.path}")
                for _ in range(VERIFIERS):
                    await self.stored.put(None)
        return self.outcome

    async def fetch(self, entry: Entry) -> None:
        async with self.gate:
            try:
                async with asyncio.timeout(FILE_TIMEOUT_SECONDS):
                    await self.download(entry)
            except TimeoutError:
                raise CrawlError(f"{entry.path}: no answer within {FILE_TIMEOUT_SECONDS} s") from None
            await self.stored.put(entry)

    async def download(self, entry: Entry) -> None:
        entry.destination.parent.mkdir(parents=True, exist_ok=True)
        # Quoted here, once: a file's name may contain what means something in an address.
        async with self.session.get(URL(f"files/{quote(entry.path)}", encoded=True)) as response:
            response.raise_for_status()
            async with aiofiles.open(entry.destination, "wb") as file:
                async for chunk in response.content.iter_chunked(CHUNK_SIZE):
                    await file.write(chunk)

    async def verify_stored(self, progress: "tqdm[Any]") -> None:
        while (entry := await self.stored.get()) is not None:
            digest = hashlib.sha256()
            size = 0
            async with aiofiles.open(entry.destination, "rb") as file:
                while chunk := await file.read(CHUNK_SIZE):
                    digest.update(chunk)
                    size += len(chunk)
            if size != entry.size:
                self.outcome.mismatches.append(f"{entry.path}: {size} bytes stored, the manifest says {entry.size}")
            elif digest.hexdigest() != entry.sha256:
                self.outcome.mismatches.append(f"{entry.path}: SHA-256 is not the manifest's")
            self.outcome.files += 1
            self.outcome.bytes += size
            progress.update()


async def crawl(url: str, directory: Path, concurrency: int) -> Outcome:
    directory.mkdir(parents=True, exist_ok=True)
    # The hashes are those of the files, so nothing on the way may be decompressed.
    async with aiohttp.ClientSession(
        base_url=url if url.endswith("/") else f"{url}/",
        connector=aiohttp.TCPConnector(limit=concurrency),
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
    ) as session:
        outcome = await Crawler(session, directory, concurrency).run()
    print(f"{outcome.files} files, {outcome.bytes} bytes, {len(outcome.mismatches)} mismatches")
    loop = type(asyncio.get_running_loop())
    print(f"event loop: {loop.__module__}.{loop.__qualname__}")
    return outcome


def first_failure(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch and verify every file of a server's manifest.")
    parser.add_argument("url", help="where manifest.json and files/ are")
    parser.add_argument("directory", type=Path, help="where to store the files")
    parser.add_argument("--concurrency", type=int, default=64, help="downloads at once (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.concurrency < 1:
        parser.error("--concurrency must be at least 1")

    started = time.perf_counter()
    try:
        outcome = asyncio.run(crawl(arguments.url, arguments.directory, arguments.concurrency))
    except (CrawlError, aiohttp.ClientError, OSError, ExceptionGroup) as error:
        cause = first_failure(error)
        if not isinstance(cause, CrawlError | aiohttp.ClientError | OSError):
            raise
        print(f"crawler: cannot fetch {arguments.url}: {str(cause) or type(cause).__name__}", file=sys.stderr)
        return 2
    print(f"took {time.perf_counter() - started:.2f} s")

    for mismatch in outcome.mismatches[:MISMATCHES_SHOWN]:
        print(f"crawler: mismatch: {mismatch}", file=sys.stderr)
    if len(outcome.mismatches) > MISMATCHES_SHOWN:
        print(f"crawler: and {len(outcome.mismatches) - MISMATCHES_SHOWN} more", file=sys.stderr)
    return 1 if outcome.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
