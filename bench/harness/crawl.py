"""The crawler of `make demo` as a benchmark: examples/crawler.py, unmodified, against examples/file_server.py.

The server runs on stock asyncio for everybody and is started once; it serves the interpreter's own standard library.
Each sample is a whole process: interpreter start, imports, hashing and the disk are in it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from harness.cases import BENCH, Crawl
from harness.loops import CONTENDERS
from harness.measure import Failure, Sample, Settings, _first_line, _last_line, _pin

EXAMPLES = BENCH.parent / "examples"
_server: subprocess.Popen[str] | None = None
_url = ""


def _serve(settings: Settings) -> str:
    global _server, _url
    if _server is None:
        errors = tempfile.TemporaryFile("w+")
        command = [settings.python, str(EXAMPLES / "file_server.py")]
        if settings.quick:
            command.append(str(EXAMPLES))
        _server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=_pin({settings.cores[1]}),  # noqa: PLW1509  this process has one thread
        )
        atexit.register(_server.kill)
        _url = _first_line(_server, errors).strip()
    return _url


def measure_crawl(settings: Settings, case: Crawl, contender: str) -> Sample:
    url = _serve(settings)
    chosen = CONTENDERS[contender]
    on_factory = [str(BENCH / "on_factory.py"), chosen.factory] if chosen.factory else []
    folder = Path(tempfile.mkdtemp(prefix="crawl-"))
    command = [
        *(settings.python, *chosen.launcher, *on_factory, str(EXAMPLES / "crawler.py"), url, str(folder / "stored")),
        *("--concurrency", str(case.concurrency)),
    ]
    try:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            begin = time.perf_counter()
            crawler = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                preexec_fn=_pin({settings.cores[0]}),  # noqa: PLW1509  as above
            )
            # wait4 alone tells what this one process used.
            _, status, usage = os.wait4(crawler.pid, 0)
            wall_s = time.perf_counter() - begin
            crawler.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            errors.seek(0)
            text = out.read()
            if crawler.returncode != 0:
                raise Failure(_last_line(errors.read()) or f"exit status {crawler.returncode}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = text.splitlines()
    loop = next((line.removeprefix("event loop: ") for line in lines if line.startswith("event loop: ")), "unknown")
    if (contender == "asyncio") != loop.startswith("asyncio."):
        raise Failure(f"the crawler ran on {loop}")
    files = int(lines[0].split()[0])
    cpu_s = usage.ru_utime + usage.ru_stime
    extra = {
        "files": files,
        "per_second": files / wall_s,
        "peak_rss_bytes": usage.ru_maxrss * 1024,
        "loop": loop,
    }
    return Sample(cpu_s / files * 1e9, wall_s / files * 1e9, extra)
