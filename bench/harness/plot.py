"""The picture: CPU per operation as a share of stock asyncio's, shorter is better."""

from __future__ import annotations

from pathlib import Path

from harness.loops import RUST_LIMIT
from harness.report import HEADLINES, number
from harness.results import Run

COLOURS = {
    "asyncio": "#b8bcc2",
    "uvloop": "#5b8db8",
    "rloop": "#7fb3a6",
    "rsloop": "#a08cc0",
    "zuvloop": "#c2a35a",
    "asynchrotron-loop": "#f0b38a",
    "asynchrotron": "#d9542b",
    RUST_LIMIT: "#22262b",
}
PANELS = {"tasks, futures, timers: ns (memory: bytes)": ("micro", "memory"), "servers: µs per message": ("servers",)}


def draw(run: Run, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib import pyplot

    # The same numbers give the same file: no random ids, no date. Text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9})
    names = [name for name in run.contenders() if name != RUST_LIMIT and run.results]
    panels = {
        title: [bench for bench in HEADLINES for suite in suites if bench in run.benches(suite)]
        for title, suites in PANELS.items()
    }
    panels = {title: benches for title, benches in panels.items() if benches}
    rows = max(len(benches) for benches in panels.values())
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(6.2 * len(panels), 1.2 + rows * (0.16 * len(names) + 0.16)), squeeze=False
    )
    for axis, (title, benches) in zip(axes[0], panels.items(), strict=True):
        _panel(run, axis, title, benches, names)
    handles = {
        label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=len(handles), frameon=False)
    python = run.about["interpreter"]
    figure.suptitle(f"CPU time per operation, asyncio = 1, shorter is better (CPython {python['python']})", fontsize=11)
    if run.about["quick"]:
        figure.text(0.5, 0.5, "from a --quick run", alpha=0.3, fontsize=30, ha="center", rotation=20)
    figure.tight_layout(rect=(0, 0.05, 1, 0.99))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=140)
    pyplot.close(figure)


def _panel(run: Run, axis, title: str, benches: list[str], names: list[str]) -> None:  # type: ignore[no-untyped-def]
    height = 0.84 / len(names)
    for row, bench in enumerate(benches):
        base = run.get(bench, "asyncio")
        if base is None:
            continue
        for position, name in enumerate(names):
            result = run.get(bench, name)
            if result is None:
                continue
            share, at = result.best / base.best, row + (position - (len(names) - 1) / 2) * height
            axis.barh(at, share, height * 0.9, color=COLOURS.get(name, "#888888"), label=name)
            axis.plot([share, max(result.costs) / base.best], [at, at], color="#444444", linewidth=0.8)
            axis.text(
                max(share, max(result.costs) / base.best) + 0.015,
                at,
                number(result.suite, result.best),
                va="center",
                size=7,
            )
        limit = run.get(bench, RUST_LIMIT)
        if limit:
            at = limit.best / base.best
            axis.plot([at, at], [row - 0.45, row + 0.45], color=COLOURS[RUST_LIMIT], linewidth=1.4, label=RUST_LIMIT)
    axis.set_yticks(range(len(benches)), [run.title(bench) for bench in benches])
    axis.invert_yaxis()
    axis.set_xlim(0, None)
    axis.set_title(title, loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.25)
    axis.set_axisbelow(True)
