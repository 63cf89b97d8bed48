"""A project as its file in projects/ describes it: where its tests come from, how they are run, what is expected.

    [source]
    name = "janus"              # of the distribution
    version = "2.0.0"
    sha256 = "…"                # of the archive
    from = "pypi"               # or "debian": the upstream archive of a Debian source package, see prepare.py
    unpack = ["tests"]          # what of the archive; never the package itself, which is installed from its wheel

    [run]
    arguments = ["tests"]       # to pytest; {NAME} stands for a variable of the services
    config = "pyproject.toml"   # the project's configuration of pytest; left out: an empty one
    options = []                # ini options in place of the project's own, "name=value"
    environment = {}
    rebind = []                 # its own loop factories and policies, by dotted name; ours or asyncio's stand in
    quiet_loggers = []          # loggers that the project's own test runner silences
    services = []               # "postgresql", "redis"
    modes = ["loop", "install"]
    seconds_per_test = 60
    quick = true                # part of the quick run (.ci/run)?
    passed_min = 100            # a run with fewer passed tests has lost some of them

    [[skip]]                    # not run, in no mode
    tests = ["tests/test_x.py::*"]
    reason = "…"

    [[stock_fails]]             # fails on stock asyncio as well, here
    [[differs]]                 # passes on stock asyncio and not on us, on purpose

tests are patterns (fnmatch, with [ and ] as themselves) over pytest's node ids.
"""

import fnmatch
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CACHE = ROOT / "target" / "suites"
MODES = ("loop", "install")
EMPTY_CONFIG = ".pytest.ini"


@dataclass(frozen=True)
class Expectation:
    patterns: tuple[str, ...]
    reason: str

    def covers(self, test: str) -> bool:
        return any(fnmatch.fnmatchcase(test, pattern.replace("[", "[[]")) for pattern in self.patterns)


@dataclass(frozen=True)
class Project:
    key: str
    name: str
    version: str
    sha256: str
    origin: str
    debian: str
    unpack: tuple[str, ...]
    arguments: tuple[str, ...]
    config: str
    options: tuple[str, ...]
    environment: dict[str, str]
    rebind: tuple[str, ...]
    quiet_loggers: tuple[str, ...]
    services: tuple[str, ...]
    modes: tuple[str, ...]
    seconds_per_test: float
    quick: bool
    passed_min: int
    skip: tuple[Expectation, ...] = field(default=())
    stock_fails: tuple[Expectation, ...] = field(default=())
    differs: tuple[Expectation, ...] = field(default=())

    @property
    def lock(self) -> Path:
        return HERE / "locks" / f"{self.key}.txt"

    @property
    def folder(self) -> Path:
        return CACHE / self.key

    @property
    def tree(self) -> Path:
        return self.folder / "source"


def covering(expectations: Iterable[Expectation], test: str) -> Expectation | None:
    return next((expectation for expectation in expectations if expectation.covers(test)), None)


def _expectations(entries: list[dict[str, Any]]) -> tuple[Expectation, ...]:
    return tuple(Expectation(tuple(entry["tests"]), entry["reason"].strip()) for entry in entries)


def load(key: str) -> Project:
    path = HERE / "projects" / f"{key}.toml"
    content = tomllib.loads(path.read_text())
    source, run = content.pop("source"), content.pop("run")
    project = Project(
        key=key,
        name=source.pop("name"),
        version=source.pop("version"),
        sha256=source.pop("sha256"),
        origin=source.pop("from", "pypi"),
        debian=source.pop("debian", ""),
        unpack=tuple(source.pop("unpack")),
        arguments=tuple(run.pop("arguments")),
        config=run.pop("config", EMPTY_CONFIG),
        options=tuple(run.pop("options", ())),
        environment=dict(run.pop("environment", {})),
        rebind=tuple(run.pop("rebind", ())),
        quiet_loggers=tuple(run.pop("quiet_loggers", ())),
        services=tuple(run.pop("services", ())),
        modes=tuple(run.pop("modes", MODES)),
        seconds_per_test=run.pop("seconds_per_test", 60),
        quick=run.pop("quick", True),
        passed_min=run.pop("passed_min"),
        skip=_expectations(content.pop("skip", [])),
        stock_fails=_expectations(content.pop("stock_fails", [])),
        differs=_expectations(content.pop("differs", [])),
    )
    unknown = [*source, *run, *content]
    if unknown:
        raise ValueError(f"{path}: unknown: {', '.join(unknown)}")
    return project


def names() -> list[str]:
    return sorted(path.stem for path in (HERE / "projects").glob("*.toml"))
