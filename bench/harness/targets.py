"""Compares runs with bench/targets.toml, line by line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from harness.cases import BENCH
from harness.report import number, table
from harness.results import Result, Run


@dataclass(frozen=True)
class Verdict:
    word: str  # met, tie, NOT MET, not measured
    bench: str
    python: str
    wanted: str
    got: str


def check(runs: list[Run]) -> tuple[str, bool]:
    """A table, and whether nothing that was measured is unmet."""
    document = tomllib.loads((BENCH / "targets.toml").read_text())
    verdicts = [verdict for target in document["target"] for verdict in _judge_all(runs, target, document["subject"])]
    counts = {
        word: sum(verdict.word == word for verdict in verdicts) for word in ("met", "tie", "NOT MET", "not measured")
    }
    rows = [["target", "Python", "wanted", "got", "verdict"]]
    rows += [[verdict.bench, verdict.python, verdict.wanted, verdict.got, verdict.word] for verdict in verdicts]
    summary = ", ".join(f"{count} {word}" for word, count in counts.items())
    return f"{table(rows)}\n\n{summary}", counts["NOT MET"] == 0


def _judge_all(runs: list[Run], target: dict[str, Any], subject: str) -> Iterator[Verdict]:
    fitting = [run for run in runs if target.get("python", run.python) == run.python]
    unmeasured = list(target["benches"])
    for run in fitting:
        for bench in run.benches():
            mine = run.get(bench, subject)
            patterns = [pattern for pattern in target["benches"] if fnmatchcase(bench, pattern)]
            verdict = _judge(run, target, bench, mine) if mine and patterns else None
            if verdict is not None:
                unmeasured = [pattern for pattern in unmeasured if pattern not in patterns]
                yield verdict
    if unmeasured:
        wanted = _wanted(target, " or ".join(target.get("against", [target.get("same", "")])))
        yield Verdict("not measured", ", ".join(unmeasured), target.get("python", "any"), wanted, "")


def _judge(run: Run, target: dict[str, Any], bench: str, mine: Result) -> Verdict | None:
    if "at_most" in target:
        got = f"{number(mine.suite, mine.best)}, median {number(mine.suite, mine.middle)}"
        word = "met" if mine.best <= target["at_most"] else "NOT MET"
        return Verdict(word, bench, run.python, _wanted(target, ""), got)
    other = _other(run, target, bench, mine)
    if other is None:
        return None
    factor = 1 / target["times_less"] if "times_less" in target else target["within"]
    met = mine.best <= other.best * factor
    word = "met" if met else "NOT MET"
    if not met and factor == 1.0 and mine.overlaps(other):
        word = "tie"
    got = f"{other.best / mine.best:.2f}x less" if "times_less" in target else f"{mine.best / other.best:.3f} of it"
    got += f" ({number(mine.suite, mine.best)} : {number(mine.suite, other.best)})"
    if (mine.middle <= other.middle * factor) != met:
        got += ", medians disagree"
    return Verdict(word, bench, run.python, _wanted(target, other.bench if "same" in target else other.contender), got)


def _other(run: Run, target: dict[str, Any], bench: str, mine: Result) -> Result | None:
    if "same" in target:
        return run.get("/".join([target["same"], *bench.split("/")[1:]]), mine.contender)
    return run.best_other(bench, mine.contender, target["against"])


def _wanted(target: dict[str, Any], other: str) -> str:
    if "at_most" in target:
        return f"at most {target['at_most']}"
    if "times_less" in target:
        return f"{target['times_less']:g}x less than {other}"
    return f"no more than {other}" if target["within"] == 1.0 else f"within {target['within'] - 1:.0%} of {other}"
