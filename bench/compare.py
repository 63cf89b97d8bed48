"""Event loops against each other: `python bench/compare.py`.

Each measurement runs in a process of its own; within a round the contenders take turns (A B C, then B C A, ...), and
the rounds cover the whole suite, so that a disturbance of the machine meets all of them. Reported is CPU time (user and
system, all threads) per operation as minimum, median and spread; wall time beside it. bench/README.md says what each
number means and what it does not.

    python bench/compare.py                              everything, 7 rounds, into bench/results/
    python bench/compare.py --quick --rounds 1           does it all still run? (numbers mean nothing)
    python bench/compare.py --suite micro --only 'sleep*' --loops asyncio,uvloop
    python bench/compare.py --check --from bench/results/FILE.jsonl
"""

from __future__ import annotations

import argparse
import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from harness import measure
from harness.cases import BENCH, LOADS, SERVERS, Case, Server, micro_cases, program_cases
from harness.loops import CONTENDERS, RUST_LIMIT
from harness.machine import control_ns, machine
from harness.measure import Failure, Settings
from harness.report import readme_block, report, rewrite_readme
from harness.results import Run
from harness.targets import check

SUITES = ("micro", "memory", "programs", "servers", "load")


def main() -> int:
    options = parse()
    if options.source:
        runs = [Run.load(path) for path in options.source]
    else:
        run = perform(options)
        runs = [run]
        path = options.json
        if path is None and not options.quick:
            stamp = run.about["machine"]["time"].replace(":", "").replace("-", "")
            path = BENCH / "results" / f"{stamp}-py{run.python}.jsonl"
        if path is not None:
            run.save(path)
            print(f"results: {path}", file=sys.stderr)
    for run in runs:
        print(report(run), end="\n\n")
    if options.plot:
        from harness.plot import draw

        draw(runs[0], options.plot)
    if options.readme:
        rewrite_readme(BENCH.parent / "README.md", readme_block(runs))
    failed = any(result.failure for run in runs for result in run.results.values())
    if options.check:
        text, met = check(runs)
        print(text)
        failed = failed or not met
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all")
    parser.add_argument(
        "--loops", help="comma-separated; default: every one that can be imported: " + ", ".join(CONTENDERS)
    )
    parser.add_argument("--only", action="append", metavar="PATTERN", help="benchmarks whose name matches; repeatable")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--quick", action="store_true", help="tiny amounts of work: shows that it runs, measures nothing"
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs workers and servers")
    parser.add_argument(
        "--cores", default=None, metavar="A,B", help="CPU of server and micro benchmarks, CPU of the client"
    )
    parser.add_argument("--target-s", type=float, default=0.3, help="least CPU time of one micro measurement")
    parser.add_argument("--duration-ms", type=int, default=1000, help="measured part of one server measurement")
    parser.add_argument("--no-build", action="store_true", help="use the Rust programs as they are")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: bench/results/<time>-py<version>.jsonl")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="SVG or PNG")
    parser.add_argument("--readme", action="store_true", help="rewrite the block between the bench marks of README.md")
    parser.add_argument(
        "--check", action="store_true", help="compare with bench/targets.toml; exit status 1 if one is not met"
    )
    parser.add_argument(
        "--from", dest="source", type=Path, nargs="+", metavar="FILE", help="measure nothing, read these results"
    )
    parser.add_argument("--list", action="store_true", help="print the benchmarks' names")
    options = parser.parse_args()
    if options.list:
        everything: list[Case] = [*micro_cases(), *program_cases(), *SERVERS, *LOADS]
        print("\n".join(case.name for case in everything))
        raise SystemExit
    if options.loops and (unknown := set(options.loops.split(",")) - {*CONTENDERS, RUST_LIMIT}):
        parser.error(f"unknown loops: {', '.join(sorted(unknown))}")
    return options


def perform(options: argparse.Namespace) -> Run:
    settings = settings_from(options)
    cases = selected(options)
    absent: dict[str, str] = {}
    if any(isinstance(case, Server) for case in cases):
        settings, cases = with_rust_programs(options, settings, cases, absent)
    if not cases:
        raise SystemExit("nothing to measure: " + "; ".join(absent.values() or ["no benchmark has such a name"]))
    contenders, types, interpreter = present(options, settings, absent)
    if settings.limit and (options.loops is None or RUST_LIMIT in options.loops.split(",")):
        contenders.append(RUST_LIMIT)
    run = Run(
        {
            "contenders": contenders,
            "types": types,
            "absent": absent,
            "interpreter": interpreter,
            "machine": machine(settings.cores),
            "rounds": options.rounds,
            "quick": options.quick,
            "target_s": settings.target_s,
            "duration_ms": settings.duration_ms,
        }
    )
    before = control_ns(settings.cores[0])
    try:
        measure_all(run, settings, cases, options.rounds)
    except KeyboardInterrupt:
        print("interrupted: reporting what there is", file=sys.stderr)
    run.about["control_ns"] = (before, control_ns(settings.cores[0]))
    return run


def measure_all(run: Run, settings: Settings, cases: list[Case], rounds: int) -> None:
    contenders = run.about["contenders"]
    for number in range(rounds):
        for position, case in enumerate(cases):
            print(f"round {number + 1}/{rounds}, {position + 1}/{len(cases)}: {case.name}", file=sys.stderr)
            turn = number % len(contenders)
            for name in contenders[turn:] + contenders[:turn]:
                if name == RUST_LIMIT and not getattr(case, "limit", False):
                    continue
                if name in CONTENDERS and not fnmatchcase(case.name, CONTENDERS[name].only):
                    continue
                known = run.results.get((case.name, name))
                if known and known.failure:
                    continue  # it is reported at the end; once is enough
                try:
                    outcome: measure.Sample | str = measure.measure(settings, case, name)
                except Failure as failure:
                    outcome = str(failure)
                    print(f"  {name} failed: {failure}", file=sys.stderr)
                run.add(case.suite, case.name, case.title, name, outcome)


def settings_from(options: argparse.Namespace) -> Settings:
    allowed = sorted(os.sched_getaffinity(0))
    cores = [int(core) for core in options.cores.split(",")] if options.cores else allowed[:2]
    if len(cores) == 1:
        print("one CPU only: server and client share it, their numbers disturb each other", file=sys.stderr)
        cores *= 2
    return Settings(
        python=options.python,
        cores=(cores[0], cores[1]),
        quick=options.quick,
        target_s=options.target_s,
        warmup_ms=50 if options.quick else 300,
        duration_ms=100 if options.quick else options.duration_ms,
    )


def selected(options: argparse.Namespace) -> list[Case]:
    everything: list[Case] = [*micro_cases(), *program_cases(), *SERVERS, *LOADS]
    everything = [case for case in everything if sys.version_info >= getattr(case, "since", ())]
    if options.quick and not options.only:
        everything = [case for case in everything if getattr(case, "quick", True)]
    return [
        case
        for case in everything
        if options.suite in ("all", case.suite)
        and (not options.only or any(fnmatchcase(case.name, pattern) for pattern in options.only))
    ]


def with_rust_programs(
    options: argparse.Namespace, settings: Settings, cases: list[Case], absent: dict[str, str]
) -> tuple[Settings, list[Case]]:
    programs: dict[str, Path] = {}
    try:
        programs["load"] = measure.load_client(not options.no_build)
    except Failure as failure:
        absent["servers"] = str(failure)
        cases = [case for case in cases if not isinstance(case, Server)]
    try:
        programs["limit"] = measure.rust_limit(not options.no_build)
    except Failure as failure:
        absent[RUST_LIMIT] = str(failure)
    return Settings(**{**vars(settings), **programs}), cases


def present(
    options: argparse.Namespace, settings: Settings, absent: dict[str, str]
) -> tuple[list[str], dict[str, dict[str, str]], dict[str, object]]:
    """Which contenders can be imported here, what they really run, and the interpreter they share."""
    wanted = options.loops.split(",") if options.loops else list(CONTENDERS)
    names, types, interpreter = [], {}, {}
    for name in CONTENDERS:
        if name not in wanted:
            continue
        try:
            found = measure.probe(settings, name)
        except Failure as failure:
            absent[name] = str(failure)
            continue
        kinds = {kind: found.pop(kind) for kind in ("loop", "task", "future")}
        stock = name == "asyncio" or CONTENDERS[name].stock_loop
        if not stock and kinds["loop"].startswith("asyncio."):
            absent[name] = f"it runs {kinds['loop']}, stock asyncio's loop"
            continue
        names.append(name)
        types[name] = kinds
        interpreter = found
    if not names:
        raise SystemExit("no contender can be imported: " + "; ".join(absent.values()))
    return names, types, interpreter


if __name__ == "__main__":
    sys.exit(main())
