"""The tables: markdown on stdout, and the short one in README.md."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from harness.loops import OURS, RUST_LIMIT
from harness.results import Result, Run

SUITES = {
    "micro": "CPU per operation, ns",
    "memory": "memory, bytes",
    "programs": "CPU per run of a whole program, ms",
    "servers": "server CPU per message or request, µs",
    "load": "CPU per request at the lower fixed rate, or per file fetched, µs",
}
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

# The README's rows: one per kind of work, not chosen by how they came out.
HEADLINES = (
    "call_soon_chain",
    "call_later_cancel",
    "call_later_cancel_turns",
    "sleep_zero",
    "future_ping_pong",
    "task_await",
    "task_bulk",
    "many_sleepers",
    "task_cancel",
    "cancel_storm",
    "gather_10k",
    "task_group_10k",
    "wait_for",
    "timeout",
    "lock_contended",
    "queue_bounded",
    "to_thread",
    "async_tree/none",
    "async_tree/io-tg",
    "tcp_bulk",
    "websockets_bulk",
    "subprocess_spawn/300 MB heap",
    "sleeping_task_memory",
    "protocol_echo/1KiB/50",
    "protocol_echo/100KiB/50",
    "sock_echo/1KiB/50",
    "streams_echo/1KiB/50",
    "four_writes/1KiB/50",
    "uvicorn_plain/50",
    "uvicorn_fastapi/50",
    "aiohttp_plain/50",
)


def table(rows: list[list[str]]) -> str:
    """Markdown that can also be read as text; the first row is the head, the first column is text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: list[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(rows[0]), line(rule), *(line(row) for row in rows[1:])])


def header(run: Run) -> str:
    machine, python = run.about["machine"], run.about["interpreter"]
    first, second = machine["cores"]
    before, after = run.about["control_ns"]
    disturbed = abs(after / before - 1) > 0.05 or machine["load"] > 0.5
    kind = f"{machine['architecture']}, virtual" if machine["virtual"] else machine["architecture"]
    lines = [
        f"{machine['time']}, commit {machine['commit'] or 'unknown'}, {run.about['rounds']} rounds, interleaved",
        f"CPython {python['python']}, {python['compiler']}, {python['build']}",
        f"{machine['cpu']} ({kind}), {machine['cpus']} CPUs, kernel {machine['kernel']}",
        f"servers and micro on CPU {first}, client on CPU {second}; governor {machine['governor'] or 'not visible'}",
        f"load before {machine['load']:.2f}; control (empty Python loop) {before:.2f} ns before, {after:.2f} ns after",
        f"GC {'on' if python['gc']['enabled'] else 'off'} {tuple(python['gc']['threshold'])}, {python['ssl']}",
        ", ".join(f"{name} {version}" for name, version in python["versions"].items()),
        *(f"{name}: {types['loop']}, {types['task']}" for name, types in run.about["types"].items()),
        *(f"{name}: not measured, {reason}" for name, reason in run.about["absent"].items()),
    ]
    if python["free_threaded"]:
        lines.append("FREE-THREADED INTERPRETER")
    if run.about["quick"]:
        lines.append("QUICK RUN: NOT A RESULT")
    if disturbed:
        lines.append("THE MACHINE WAS NOT QUIET")
    return "\n".join(lines)


def report(run: Run) -> str:
    parts = [header(run)]
    for suite, unit in SUITES.items():
        if run.benches(suite):
            parts.append(f"### {suite}: {unit}; min (median, spread)\n\n{_costs(run, suite)}")
            if suite in ("micro", "programs"):
                per = "operation, ns" if suite == "micro" else "run, ms"
                parts.append(f"### {suite}: wall time per {per}; min\n\n{_walls(run, suite)}")
            if suite == "servers":
                parts.append(f"### servers: messages/s; p50 / p99 latency µs; busy server/client %\n\n{_traffic(run)}")
            if suite == "load":
                parts.append(f"### load: {LOAD_HEAD}\n\n{_load(run)}")
    failures = [result for result in run.results.values() if result.failure]
    if failures:
        parts.append("\n".join(f"FAILED {result.bench}, {result.contender}: {result.failure}" for result in failures))
    parts.append(behind(run))
    parts.append(
        "Ratios compare minima: 5.0x is a fifth of the other's cost, 0.8x is more than the other's. "
        "~ marks ranges that overlap: no claim."
    )
    return "\n\n".join(parts)


def behind(run: Run) -> str:
    """The list nobody publishes: where another loop is cheaper beyond doubt."""
    subject = run.subject()
    if subject is None:
        return "One contender: nothing to compare."
    lines = []
    for bench in run.benches():
        mine = run.get(bench, subject)
        others = [run.get(bench, name) for name in run.contenders() if name not in (*OURS, RUST_LIMIT, subject)]
        best = min((other for other in others if other), key=lambda other: other.best, default=None)
        if mine and best and best.best < mine.best and not mine.overlaps(best):
            lines.append(f"- {run.title(bench)}: {best.contender}, {mine.best / best.best:.2f} times its cost")
    return "\n".join([f"Where {subject} is behind:" + ("" if lines else " nowhere, beyond the spread."), *lines])


def _costs(run: Run, suite: str) -> str:
    names, subject = run.contenders(suite), run.subject()
    against = [name for name in ("asyncio", "uvloop") if name in names and name != subject]
    others = [name for name in names if name not in ("asyncio", "uvloop", RUST_LIMIT) and name != subject]
    rivals = any(not name.startswith("asynchrotron") for name in others)
    limit = RUST_LIMIT in names
    head = [SUITES[suite].split(",")[0], *names]
    if subject:
        head += [f"{subject}: vs {name}" for name in against]
        head += ["vs best other"] * rivals + ["of the limit"] * limit
    rows = [head]
    for bench in run.benches(suite):
        found = {name: run.get(bench, name) for name in names}
        row = [run.title(bench), *(_cell(suite, found[name]) for name in names)]
        if subject:
            mine = found[subject]
            row += [ratio(mine, found[name]) for name in against]
            if rivals:
                best = run.best_other(bench, subject)
                row.append(f"{ratio(mine, best)} ({best.contender})" if best else "-")
            if limit:
                floor = found[RUST_LIMIT]
                row.append(f"{mine.best / floor.best:.2f}" if mine and floor else "-")
        rows.append(row)
    return table(rows)


def _walls(run: Run, suite: str) -> str:
    names = run.contenders(suite)
    rows = [["wall", *names]]
    for bench in run.benches(suite):
        found = (run.get(bench, name) for name in names)
        rows.append([run.title(bench), *(number(suite, min(result.walls)) if result else "-" for result in found)])
    return table(rows)


def _traffic(run: Run) -> str:
    names = run.contenders("servers")
    rows = [["closed loop", *names]]
    rows += [
        [run.title(bench), *(_traffic_cell(run.get(bench, name)) for name in names)] for bench in run.benches("servers")
    ]
    return table(rows)


LOAD_HEAD = (
    "most requests/s (CPU per request then, µs) and memory, MB; "
    "then p50 / p99 / p99.9 (CPU per request) at fixed rates, ms (µs)"
)


def _load(run: Run) -> str:
    names = run.contenders("load")
    rows = [["load", "rate", *names]]
    for bench in run.benches("load"):
        found = [run.get(bench, name) for name in names]
        rows.append([run.title(bench), "full", *map(_full_cell, found)])
        paced = next((result.samples[0].extra.get("paced", []) for result in found if result), [])
        for position, one in enumerate(paced):
            rate = f"{one['share']:.0%}: {one['rate']:,}/s"
            rows.append([run.title(bench), rate, *(_paced_cell(result, position) for result in found)])
    return table(rows)


def _full_cell(result: Result | None) -> str:
    if result is None:
        return "-"
    per_second = f"{result.middle_of('per_second'):,.0f}/s"
    memory = f"{result.middle_of('peak_rss_bytes') / 1e6:.0f} MB"
    if "full_cpu_ns" in result.samples[0].extra:
        per_second += f" ({result.middle_of('full_cpu_ns') / 1e3:.0f})"
    return f"{per_second}; {memory}"


def _paced_cell(result: Result | None, position: int) -> str:
    """The middle one of the rounds, for each number by itself."""
    if result is None:
        return "-"
    paced = [sample.extra["paced"][position] for sample in result.samples]
    latencies = " / ".join(
        f"{median(one['latency_ns'][name] for one in paced) / 1e6:.2f}" for name in ("p50", "p99", "p999")
    )
    late = sum(one["unanswered"] for one in paced)
    cpu = f"{median(one['cpu_ns'] for one in paced) / 1e3:.0f}"
    return f"{latencies} ({cpu})" + (f"; {late} UNANSWERED" if late > len(paced) * 50 else "")


def _traffic_cell(result: Result | None) -> str:
    if result is None:
        return "-"
    per_second = 1e9 / sorted(result.walls)[len(result.walls) // 2]
    p50, p99 = (
        sorted(sample.extra["latency_ns"][name] for sample in result.samples)[len(result.samples) // 2] / 1e3
        for name in ("p50", "p99")
    )
    server, client = (result.middle_of(name) * 100 for name in ("server_cpu_share", "client_cpu_share"))
    return f"{per_second:,.0f}; {p50:.0f} / {p99:.0f}; {server:.0f}/{client:.0f} %"


def _cell(suite: str, result: Result | None) -> str:
    if result is None:
        return "-"
    return f"{number(suite, result.best)} ({number(suite, result.middle)}, {result.spread:.0%})"


def number(suite: str, value: float) -> str:
    if suite in ("servers", "load"):
        return f"{value / 1e3:.1f}" if value < 1e5 else f"{value / 1e3:.0f}"
    if suite == "programs":
        return f"{value / 1e6:.1f}" if value < 1e8 else f"{value / 1e6:.0f}"
    return f"{value:.0f}"


def ratio(mine: Result | None, other: Result | None) -> str:
    """How many times less than the other."""
    if mine is None or other is None:
        return "-"
    value = other.best / mine.best
    text = f"{value:.1f}x" if value >= 1.95 else f"{value:.2f}x"
    return f"~{text}" if mine.overlaps(other) else text


# README.md


def readme_block(runs: list[Run]) -> str:
    parts = []
    for run in runs:
        subject = run.subject()
        names = [name for name in run.contenders() if name != "asynchrotron-loop" or subject == name]
        rivals = [name for name in names if name not in ("asyncio", RUST_LIMIT, subject)]
        best_head = "less than uvloop" if rivals == ["uvloop"] else "less than the best other"
        rows = [["", *names, "less than asyncio", best_head]]
        for bench in HEADLINES:
            found = [run.get(bench, name) for name in names]
            mine = run.get(bench, subject) if subject else None
            if mine is None:
                continue
            unit = {"micro": "ns", "memory": "bytes", "programs": "ms", "servers": "µs"}[mine.suite]
            cells = [number(mine.suite, result.best) if result else "" for result in found]
            best = run.best_other(bench, mine.contender)
            rows.append(
                [f"{run.title(bench)}, {unit}", *cells, ratio(mine, run.get(bench, "asyncio")), ratio(mine, best)]
            )
        spreads = sorted(result.spread for result in run.results.values() if result.samples)
        python = run.about["interpreter"]
        versions = ", ".join(f"{name} {version}" for name, version in python["versions"].items())
        caption = (
            "CPU time (user and system) per operation or message, minimum of "
            f"{run.about['rounds']} interleaved rounds; median spread {spreads[len(spreads) // 2]:.0%}, "
            f"largest {spreads[-1]:.0%}. CPython {python['python']}, {python['build']}; {run.about['machine']['cpu']}; "
            f"{versions}. `~` marks ranges that overlap."
        )
        parts.append(f"{table(rows)}\n\n{caption}")
    if any(run.about["quick"] for run in runs):
        parts.insert(0, "**From a --quick run: not a result.**")
    return "\n\n".join(parts) + "\n\nMade with `python bench/compare.py --suite all --plot docs/bench.svg --readme`."


def rewrite_readme(path: Path, block: str) -> None:
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit(f"{path.name} needs one {BEGIN} and, after it, one {END}")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}")
