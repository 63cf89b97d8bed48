"""Runs refcounts.py for each test module, in a process of its own, two at a time (make refcounts).

    tests/leaks/every_module.py PATH... OPTION...      folders or modules of tests; options are pytest's

REFCOUNTS_JOBS=4 runs more at a time. What a module left, or why it ended, is shown when it has ended; a line for each,
and the sum of all, at the end. The whole output is in target/refcounts/.
"""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LOGS = ROOT / "target" / "refcounts"
JOBS = int(os.environ.get("REFCOUNTS_JOBS", "2"))
# Not always the last line: a child may speak later.
SUMMARY = re.compile(r"^=* ?(\d+ (?:passed|failed|error|skipped).*) in [\d.]+s", re.MULTILINE)
COUNTS = re.compile(r"(\d+) (passed|failed|errors?|skipped)")
REPEATED = re.compile(r"(\d+) tests repeated, (\d+) run once")
# A debug build is slow, and what is drawn at random runs once.
FEWER = {"MODEL_EXAMPLES": "40", "FUZZ_EXAMPLES": "20"}
NO_TESTS = 5  # pytest's status when the options leave none of a module's


def modules(paths: list[str]) -> list[str]:
    found: list[str] = []
    for name in paths:
        path = Path(name)
        found += sorted(map(str, path.glob("test_*.py"))) if path.is_dir() else [name]
    return found


def one(module: str, options: list[str]) -> dict[str, int]:
    began = time.monotonic()
    log = LOGS / (Path(module.split("::")[0]).stem + ".log")
    with log.open("w") as output:
        status = subprocess.run(
            [sys.executable, HERE / "refcounts.py", module, *options], cwd=ROOT, env=FEWER | os.environ, stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode  # fmt: skip
    text = log.read_text(errors="replace")
    lines = text.splitlines()
    result = dict.fromkeys(("passed", "failed", "skipped", "repeated", "once"), 0)
    summaries = SUMMARY.findall(text)
    for count, what in COUNTS.findall(summaries[-1] if summaries else ""):
        result["failed" if what.startswith("error") else what] += int(count)
    if repeated := REPEATED.search(text):
        result["repeated"], result["once"] = map(int, repeated.groups())
    if status not in (0, NO_TESTS):
        result["failed"] = max(result["failed"], 1)
        print("\n".join(lines[-200:]), f"{module} ended with status {status}; all it said: {log}", sep="\n")
    seconds = time.monotonic() - began
    print(f"{module}: " + ", ".join(f"{count} {what}" for what, count in result.items()) + f"; {seconds:.0f} s")
    sys.stdout.flush()
    return result


def main() -> int:
    paths = [argument for argument in sys.argv[1:] if Path(argument.split("::")[0]).exists()]
    options = [argument for argument in sys.argv[1:] if argument not in paths]
    LOGS.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(JOBS) as jobs:
        results = list(jobs.map(lambda module: one(module, options), modules(paths)))
    total = {what: sum(result[what] for result in results) for what in results[0]} if results else {"failed": 1}
    print(f"{len(results)} modules: " + ", ".join(f"{count} {what}" for what, count in total.items()))
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
