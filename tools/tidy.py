"""House conventions that no other tool checks, as a check with friendly messages: `python tools/tidy.py`.

Errors end with status 1; warnings only say what a reviewer would ask. The rules are the functions named rule_*.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 900
# A note to self names the issue that will settle it.
NOTE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")  # tidy: the pattern itself
ISSUE = re.compile(r"(#|issue )\d+")
UNSAFE = re.compile(r"\bunsafe\s*(\{|impl\b)")
# What is right only while one thread runs at a time.
LEANS_ON_GIL = re.compile(
    r"unsafe impl Sync|\bUnsafeCell<|\bPy_REFCNT\(|\btp_version_tag\b|\bPy(Dict_GetItem|List_GetItem|Dict_Next)"
)
FREE_THREADING = ROOT / "docs/internals/free-threading.md"
PYTHON_NAMES = re.compile(r"\b(pyo3|pyo3_ffi|PyObject)\b")


@dataclass(frozen=True)
class Finding:
    line: int
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Source:
    path: str
    lines: list[str]

    @property
    def is_rust(self) -> bool:
        return self.path.endswith(".rs")


def rule_python_stays_in_its_room(source: Source) -> Iterator[Finding]:
    if not source.path.startswith("crates/") or source.path.startswith("crates/python/"):
        return
    for number, line in enumerate(source.lines, 1):
        if not line.lstrip().startswith("//") and PYTHON_NAMES.search(line):
            yield Finding(number, "only crates/python knows Python; the caller decides what a token means")


def rule_notes_name_an_issue(source: Source) -> Iterator[Finding]:
    for number, line in enumerate(source.lines, 1):
        if NOTE.search(line) and not ISSUE.search(line) and "tidy:" not in line:
            yield Finding(number, "a note to self needs the number of the issue that will settle it")


def rule_unsafe_says_why(source: Source) -> Iterator[Finding]:
    if not source.is_rust:
        return
    for number, line in enumerate(source.lines, 1):
        code = line.split("//")[0]
        if UNSAFE.search(code) and not _is_argued(source.lines, number - 1):
            yield Finding(number, "an unsafe block or impl needs a `// SAFETY:` note that cites what makes it true")


def _is_argued(lines: list[str], index: int) -> bool:
    """SAFETY on the line itself, or in the comment above the statement (which may have begun some lines earlier)."""
    for line in reversed(lines[max(0, index - 8) : index + 1]):
        if "SAFETY:" in line:
            return True
        if line.strip() in ("}", "{", "") and line is not lines[index]:
            return False
    return False


def rule_what_leans_on_the_gil_is_listed(source: Source) -> Iterator[Finding]:
    room = "crates/python/src/"
    if not source.path.startswith(room) or f"`{source.path.removeprefix(room)}`" in FREE_THREADING.read_text():
        return
    for number, line in enumerate(source.lines, 1):
        if LEANS_ON_GIL.search(line.split("//")[0]):
            yield Finding(number, f"this leans on the GIL: {FREE_THREADING.name} lists it, with what it would become")


def rule_long_files_are_one_thing(source: Source) -> Iterator[Finding]:
    if len(source.lines) > LINES_MAX and source.path.endswith((".rs", ".py")):
        yield Finding(1, f"{len(source.lines)} lines: is it one state machine, or several things?", warning=True)


def rule_files_say_what_they_are(source: Source) -> Iterator[Finding]:
    """STYLE of the house: every file begins with what lives there."""
    first = next((line for line in source.lines if line.strip() and not line.startswith("#!")), "")
    if source.is_rust and not first.startswith(("//!", "// ", "#![")):
        yield Finding(1, "a file begins with what lives here, what does not, and which invariant matters", warning=True)
    if source.path.endswith(".py") and first and not first.startswith(('"""', 'r"""', "#")):
        yield Finding(1, "a file begins with what lives here, what does not, and which invariant matters", warning=True)


RULES = [rule for name, rule in sorted(globals().items()) if name.startswith("rule_")]


def sources() -> Iterator[Source]:
    """What git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in sorted(set(listing.split("\0")) - {""}):
        path = ROOT / name
        if path.suffix in (".rs", ".py", ".pyi", ".toml", ".sh", ".yml") and path.is_file():
            yield Source(name, path.read_text(encoding="utf-8").splitlines())


def main() -> int:
    errors = 0
    for source in sources():
        for rule in RULES:
            for finding in rule(source):
                kind = "warning" if finding.warning else "error"
                errors += not finding.warning
                print(f"{source.path}:{finding.line}: {kind}: {finding.message}")
    print(f"tidy: {errors} errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
