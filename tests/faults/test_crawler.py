"""The crawler and the file server of examples/ in one process, under faults: every file is stored as it is, or the
crawler says that it could not fetch it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asynchrotron
import pytest
from aiohttp import web
from faulted import GENTLE, HARSH, faulted, injected

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import crawler  # noqa: E402
import file_server  # noqa: E402

# aiofiles opens files in a thread; one whose opener is cancelled meanwhile is left to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

FILES = 12
PLACES: list[Path] = []


@pytest.fixture(autouse=True)
def places(tmp_path: Path) -> Iterator[None]:
    """What is served, and where it is stored; the crawler uses asyncio's names."""
    served = tmp_path / "served"
    for number in range(FILES):
        path = served / f"folder {number % 3}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes((number + at) % 251 for at in range(number**2 * 1000)))
    PLACES[:] = [served, tmp_path / "stored"]
    asynchrotron.install()
    yield
    asynchrotron.uninstall()


def is_expected(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(is_expected(one) for one in error.exceptions)
    return isinstance(error, crawler.CrawlError | aiohttp.ClientError) or injected(error)


async def crawl(random: Any) -> None:
    served, stored = PLACES
    runner = web.AppRunner(
        file_server.make_application(served), handle_signals=False, access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            outcome = await crawler.crawl(f"http://{host}:{port}/", stored, random.choice((1, 3, 10)))
        except (crawler.CrawlError, aiohttp.ClientError, OSError, ExceptionGroup) as error:
            if not is_expected(error):
                raise
        else:
            assert outcome.files == FILES
            assert not outcome.mismatches
    finally:
        await runner.cleanup()


@faulted(GENTLE)
async def test_the_crawler_notices_nothing_of_gentle_faults(random: Any) -> None:
    await crawl(random)


@faulted(HARSH)
async def test_the_crawler(random: Any) -> None:
    await crawl(random)
