"""A static file server for the crawler: every regular file below one directory, and a manifest of them.

The manifest (path, size and SHA-256 of each file) is made once at start-up and is also the list of what may be
fetched, so no request can name anything outside the tree. The address is printed once the port is open.
Run it with plain `python`: whatever loop the crawler uses, it should always face the same peer.
"""

import argparse
import asyncio
import hashlib
import os
import signal
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from aiohttp import web

SKIPPED_DIRECTORIES = frozenset({"__pycache__", "dist-packages", "site-packages"})


class Entry(TypedDict):
    path: str
    size: int
    sha256: str


def files_below(root: Path) -> Iterator[Path]:
    """The readable regular files of the tree, without what other packages or past runs left there."""
    root = root.resolve()
    for directory, subdirectories, names in os.walk(root, followlinks=False):
        subdirectories[:] = sorted(name for name in subdirectories if name not in SKIPPED_DIRECTORIES)
        for name in sorted(names):
            path = Path(directory, name)
            # Debian keeps a few of the library's files elsewhere and links to them; those are not part of the tree.
            if path.resolve().is_relative_to(root) and path.is_file() and os.access(path, os.R_OK):
                yield path


def make_manifest(root: Path) -> list[Entry]:
    root = root.resolve()
    manifest: list[Entry] = []
    for path in files_below(root):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            size = file.tell()
        manifest.append({"path": path.relative_to(root).as_posix(), "size": size, "sha256": digest.hexdigest()})
    return manifest


def make_application(root: Path) -> web.Application:
    root = root.resolve()
    manifest = make_manifest(root)
    known = {entry["path"] for entry in manifest}

    async def send_manifest(request: web.Request) -> web.StreamResponse:
        return web.json_response({"files": manifest})

    async def send_file(request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        if path not in known:
            raise web.HTTPNotFound(text=f"{path} is not in the manifest\n")
        return web.FileResponse(root / path)

    application = web.Application()
    application.router.add_get("/manifest.json", send_manifest)
    application.router.add_get("/files/{path:.+}", send_file)
    return application


async def serve(root: Path) -> None:
    runner = web.AppRunner(make_application(root), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        print(f"http://{host}:{port}/", flush=True)

        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, stop.set)
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the files below a directory, with a manifest of their hashes.")
    parser.add_argument(
        "root",
        type=Path,
        nargs="?",
        default=Path(sysconfig.get_path("stdlib")),
        help="what to serve (default: this Python's standard library)",
    )
    arguments = parser.parse_args()
    if not arguments.root.is_dir():
        parser.error(f"{arguments.root} is not a directory")
    asyncio.run(serve(arguments.root))


if __name__ == "__main__":
    main()
