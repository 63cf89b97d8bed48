"""What a reader needs to know about the machine and the interpreter to judge the numbers."""

import gc
import os
import platform
import re
import ssl
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

DISTRIBUTIONS = (
    "asynchrotron",
    "uvloop",
    "rloop",
    "rsloop",
    "zuvloop",
    "uvicorn",
    "httptools",
    "aiohttp",
    "fastapi",
    "pydantic",
)


def interpreter() -> dict[str, Any]:
    """About the running interpreter; called in a measured process."""
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "build": build_kind(),
        "ssl": ssl.OPENSSL_VERSION,
        "gc": {"enabled": gc.isenabled(), "threshold": gc.get_threshold()},
        "malloc": {name: value for name, value in os.environ.items() if name.startswith(("MALLOC_", "PYTHONMALLOC"))},
        "versions": versions,
    }


def build_kind() -> str:
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    traits = []
    if "--enable-optimizations" in arguments:
        traits.append("PGO (--enable-optimizations)")
    elif Path(sys.base_prefix) == Path("/usr") and Path("/etc/debian_version").exists():
        # Debian's rules call `make profile-opt` themselves, so configure's arguments do not show it.
        traits.append("Debian package (PGO by its build rules, not visible in CONFIG_ARGS)")
    else:
        traits.append("no PGO in CONFIG_ARGS")
    if "--with-lto" in arguments:
        traits.append("LTO")
    if "--with-pydebug" in arguments:
        traits.append("DEBUG BUILD")
    if re.search(r"--enable-experimental-jit(?!=(no|yes-off))", arguments):
        traits.append("JIT")
    return ", ".join(traits)


def machine(cores: tuple[int, int]) -> dict[str, Any]:
    cpu_info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", cpu_info, re.MULTILINE)
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": model[1] if model else platform.machine(),
        "architecture": platform.machine(),
        "virtual": "hypervisor" in cpu_info,
        "cpus": os.cpu_count(),
        "cores": cores,
        "governor": _read(f"/sys/devices/system/cpu/cpu{cores[0]}/cpufreq/scaling_governor"),
        "turbo_off": _read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
        "commit": _commit(),
    }


def control_ns(core: int) -> float:
    """Nanoseconds per iteration of an empty Python loop: the same before and after, or the machine was disturbed."""
    program = (
        "import time\n"
        "def loop(n):\n"
        "    start = time.process_time_ns()\n"
        "    for _ in range(n): pass\n"
        "    return (time.process_time_ns() - start) / n\n"
        "print(min(loop(2_000_000) for _ in range(3)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    return float(done.stdout)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _commit() -> str | None:
    root = Path(__file__).parents[2]
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return found.stdout.strip() or None
