"""Measured samples, their statistics, and the JSON lines they are kept in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from harness.loops import OURS, RUST_LIMIT
from harness.measure import Sample


@dataclass
class Result:
    """All samples of one contender in one benchmark."""

    suite: str
    bench: str
    title: str
    contender: str
    samples: list[Sample] = field(default_factory=list)
    failure: str | None = None

    @property
    def costs(self) -> list[float]:
        return [sample.cost for sample in self.samples]

    @property
    def walls(self) -> list[float]:
        return [sample.wall for sample in self.samples if sample.wall is not None]

    @property
    def best(self) -> float:
        return min(self.costs)

    @property
    def middle(self) -> float:
        return median(self.costs)

    @property
    def spread(self) -> float:
        """(max - min) / min: everything that was seen, not a standard deviation that hides the worst."""
        return (max(self.costs) - self.best) / self.best if self.best else 0.0

    def overlaps(self, other: Result) -> bool:
        """No claim is made about two contenders whose ranges overlap."""
        return self.best <= max(other.costs) and other.best <= max(self.costs)

    def middle_of(self, name: str) -> float:
        return float(median(sample.extra[name] for sample in self.samples))


@dataclass
class Run:
    """One interpreter, one machine, one evening."""

    about: dict[str, Any]
    results: dict[tuple[str, str], Result] = field(default_factory=dict)

    @property
    def python(self) -> str:
        return ".".join(self.about["interpreter"]["python"].split(".")[:2])

    def add(self, suite: str, bench: str, title: str, contender: str, outcome: Sample | str) -> None:
        result = self.results.setdefault((bench, contender), Result(suite, bench, title, contender))
        if isinstance(outcome, str):
            result.failure = outcome
        else:
            result.samples.append(outcome)

    def get(self, bench: str, contender: str) -> Result | None:
        result = self.results.get((bench, contender))
        return result if result and result.samples else None

    def benches(self, suite: str | None = None) -> list[str]:
        names = (result.bench for result in self.results.values() if suite in (None, result.suite))
        return list(dict.fromkeys(names))

    def title(self, bench: str) -> str:
        return next(result.title for result in self.results.values() if result.bench == bench)

    def contenders(self, suite: str | None = None) -> list[str]:
        order: list[str] = self.about["contenders"]
        present = {result.contender for result in self.results.values() if suite in (None, result.suite)}
        return [name for name in order if name in present]

    def subject(self) -> str | None:
        """Whose ratios are shown: ours, or as long as we cannot be imported the last of the others."""
        present = [name for name in self.contenders() if name != RUST_LIMIT]
        for name in OURS:
            if name in present:
                return name
        return present[-1] if len(present) > 1 else None

    def best_other(self, bench: str, subject: str, among: list[str] | None = None) -> Result | None:
        """The cheapest loop that is neither stock asyncio nor ours."""
        names = among or [name for name in self.contenders() if name not in ("asyncio", RUST_LIMIT, *OURS)]
        found = [result for name in names if name != subject and (result := self.get(bench, name))]
        return min(found, key=lambda result: result.best, default=None)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [{"kind": "run", **self.about}]
        lines += [{"kind": "result", **asdict(result)} for result in self.results.values()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    @classmethod
    def load(cls, path: Path) -> Run:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        run = cls({name: value for name, value in lines[0].items() if name != "kind"})
        for line in lines[1:]:
            del line["kind"]
            line["samples"] = [Sample(**sample) for sample in line["samples"]]
            result = Result(**line)
            run.results[result.bench, result.contender] = result
        return run
