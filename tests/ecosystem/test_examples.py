"""The programs in examples/: the crawler succeeds, and fails as it says it does; the others check themselves."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest

EXAMPLES = harness.HERE.parents[1] / "examples"

pytestmark = [
    pytest.mark.timeout(120),
    # Whole programs with arguments, run as their users run them: there is no loop-only mode.
    pytest.mark.parametrize("mode", [mode for mode in harness.MODES if mode in {"stock", "install"}], indirect=True),
]


def command(mode: str, program: str, *arguments: str) -> list[str]:
    if mode == "stock":
        return [sys.executable, "-X", "dev", str(EXAMPLES / program), *arguments]
    return [sys.executable, "-X", "faulthandler", "-m", "asynchrotron", str(EXAMPLES / program), *arguments]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for number in range(150):
        path = root / f"directory {number % 7}" / f"file {number} % ü?#.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * (number * 200))
    (root / "empty").touch()
    (root / "packed.gz").write_bytes(b"\x1f\x8b not really packed")
    # None of these is to be served.
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "left.pyc").write_bytes(b"left over")
    (root / "elsewhere").symlink_to("/etc/hostname")
    return root


@contextlib.contextmanager
def file_server(root: Path) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "file_server.py"), str(root)],
        stdout=subprocess.PIPE,
        text=True,
        env=harness.environment(),
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
            process.terminate()
            assert process.wait(20) == 0
        finally:
            harness.kill_group(process)


def crawl(mode: str, url: str, directory: Path) -> harness.Ended:
    return harness.run(command(mode, "crawler.py", url, str(directory), "--concurrency", "20"))


def test_crawler_stores_what_is_served(mode: str, tree: Path, tmp_path: Path) -> None:
    with file_server(tree) as url:
        ended = crawl(mode, url, tmp_path / "stored")
    assert (ended.exit_status, ended.stderr) == (0, ""), str(ended)
    first, second, *_ = ended.stdout.splitlines()
    assert first.startswith("152 files, ")
    assert first.endswith(" 0 mismatches")
    assert harness.ran_on(second.removeprefix("event loop: "), mode)

    stored = [path for path in (tmp_path / "stored").rglob("*") if path.is_file()]
    assert len(stored) == 152
    for path in stored:
        assert path.read_bytes() == (tree / path.relative_to(tmp_path / "stored")).read_bytes()


def test_crawler_notices_a_file_that_changed(mode: str, tree: Path, tmp_path: Path) -> None:
    with file_server(tree) as url:
        (tree / "packed.gz").write_bytes(b"\x1f\x8b NOT really packed")
        (tree / "empty").write_bytes(b"no longer")
        ended = crawl(mode, url, tmp_path / "stored")
    assert ended.exit_status == 1, str(ended)
    assert sorted(ended.stderr.splitlines()) == [
        "crawler: mismatch: empty: 9 bytes stored, the manifest says 0",
        "crawler: mismatch: packed.gz: SHA-256 is not the manifest's",
    ]


def test_crawler_says_what_it_could_not_fetch(mode: str, tree: Path, tmp_path: Path) -> None:
    with file_server(tree) as url:
        (tree / "empty").unlink()
        ended = crawl(mode, url, tmp_path / "stored")
    assert ended.exit_status == 2, str(ended)
    assert "404" in ended.stderr, str(ended)
    assert "Traceback" not in ended.stderr, str(ended)

    ended = crawl(mode, "http://127.0.0.1:1/", tmp_path / "stored")
    assert ended.exit_status == 2, str(ended)
    assert "127.0.0.1:1" in ended.stderr, str(ended)
    assert "Traceback" not in ended.stderr, str(ended)


@pytest.mark.parametrize("program", ["echo_server.py", "chat_streams.py"])
def test_check(mode: str, program: str) -> None:
    ended = harness.run(command(mode, program, "--check"))
    assert (ended.exit_status, ended.stderr) == (0, ""), str(ended)
    assert ended.stdout.endswith(("unchanged\n", "everything\n")), str(ended)
