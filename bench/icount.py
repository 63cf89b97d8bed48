"""Instructions per operation, counted by valgrind: they do not jitter, so two builds of ours can be compared on any
machine, however busy. Each benchmark runs twice, with one and with two units of work: the difference has no start-up.

    python bench/icount.py --json before.json
    python bench/icount.py --baseline before.json            exit status 1 if anything grew by more than --tolerance
    python bench/icount.py --python old-venv/bin/python --python new-venv/bin/python

Instructions are not time: cache misses and system calls count for nothing here. For time there is compare.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from harness.cases import Micro, micro_cases
from harness.loops import CONTENDERS
from harness.measure import python_command
from harness.report import table

Counts = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", help="interpreter to count on; repeat it to compare two builds")
    parser.add_argument("--loop", choices=CONTENDERS, default="asynchrotron")
    parser.add_argument("--only", action="append", metavar="PATTERN")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--baseline", type=Path, metavar="FILE")
    parser.add_argument("--tolerance", type=float, default=0.02, help="growth that still passes (default 0.02)")
    options = parser.parse_args()
    pythons: list[str] = options.python or [sys.executable]
    cases = [
        case
        for case in micro_cases()
        if case.deterministic
        and not case.memory
        and (not options.only or any(fnmatchcase(case.name, pattern) for pattern in options.only))
    ]
    columns: dict[str, Counts] = {}
    if options.baseline:
        columns["baseline"] = json.loads(options.baseline.read_text())
    for number, python in enumerate(pythons):
        name = "now" if len(pythons) == 1 else f"build {number + 1}"
        columns[name] = {}
        for case in cases:
            print(f"{name}: {case.name}", file=sys.stderr)
            columns[name][case.name] = per_operation(python, options.loop, case)
    first, last = next(iter(columns.values())), columns[next(reversed(columns))]
    if options.json:
        options.json.write_text(json.dumps(last, indent=1) + "\n")
    changes = {case.name: last[case.name] / first[case.name] - 1 for case in cases if case.name in first}
    rows = [[f"instructions per operation, {options.loop}", *columns, *(["change"] if len(columns) > 1 else [])]]
    for case in cases:
        row = [case.title, *(f"{counts[case.name]:.0f}" if case.name in counts else "-" for counts in columns.values())]
        if len(columns) > 1:
            row.append(f"{changes[case.name]:+.2%}" if case.name in changes else "-")
        rows.append(row)
    print(table(rows))
    return 1 if any(change > options.tolerance for change in changes.values()) else 0


def per_operation(python: str, loop: str, case: Micro) -> float:
    once, twice = (instructions(python, loop, case.name, units * case.unit_quick) for units in (1, 2))
    return (twice - once) / case.unit_quick


def instructions(python: str, loop: str, bench: str, count: int) -> int:
    command = [
        *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
        *python_command(python, loop, "worker.py", [bench, "--count", str(count)]),
    ]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return int(found[1])


if __name__ == "__main__":
    sys.exit(main())
