"""Programs that child processes run in tests, and how tests look at them."""

import json
import os
import subprocess
import sys
from typing import Any

# Quick to start: no site packages, no environment.
PYTHON = (sys.executable, "-I", "-S")


def _others_can_run() -> bool:
    """Only root can become somebody else, and who that is may have no way to this Python (one in root's home)."""
    try:
        return os.getuid() == 0 and subprocess.run([*PYTHON, "-c", ""], user=65534).returncode == 0
    except PermissionError:
        return False


OTHERS_CAN_RUN = _others_can_run()
OTHERS_CAN_RUN_REASON = "needs root, and a Python that other users can start"

# Tells what it inherited, as JSON on descriptor 1. It looks at the descriptors before it opens any.
STATE = """
import os, signal
fds = []
for fd in range(200):
    try:
        os.fstat(fd)
    except OSError:
        continue
    fds.append(fd)
import json, sys
mask = os.umask(0)
ignored = [n for n in signal.valid_signals() if n > 2 and signal.getsignal(n) == signal.SIG_IGN]
blocked = sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))
status = open("/proc/self/status").read()
ignored_by_kernel = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")][0]
print(json.dumps(dict(
    args=sys.argv[1:], cwd=os.getcwd(), fds=fds, umask=mask, own_session=os.getsid(0) == os.getpid(),
    own_group=os.getpgrp() == os.getpid(), env=sorted(os.environ), blocked=blocked, groups=sorted(os.getgroups()),
    ids=[os.getuid(), os.getgid()], first=os.environ.get("FIRST"),
)))
"""


async def state(w: Any, *args: str, **kwargs: Any) -> dict[str, Any]:
    """Start a Python that tells what it inherited."""
    kwargs.setdefault("env", {"FIRST": "1"})
    child = await w.aio.create_subprocess_exec(*PYTHON, "-c", STATE, *args, stdout=w.aio.subprocess.PIPE, **kwargs)
    output, _ = await child.communicate()
    assert child.returncode == 0
    told: dict[str, Any] = json.loads(output)
    return told


def open_descriptors() -> list[int]:
    listing = os.listdir("/proc/self/fd")
    return sorted(fd for fd in map(int, listing) if os.path.exists(f"/proc/self/fd/{fd}"))
