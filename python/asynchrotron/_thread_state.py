"""Where CPython 3.14 and later keep the running task in the thread state.

`asyncio.current_task()` and `python -m asyncio ps` look there. Telling it through `_asyncio._swap_current_task` costs
26 ns, twice per step; the native core writes the field itself if it knows where it is. CPython publishes the place for
debuggers in a section of the binary that holds `_asyncio` (Modules/_asynciomodule.c, Py_AsyncioModuleDebugOffsets).
The core checks what it is told before it uses it, and calls the function where anything is in doubt.
"""

import os
import struct
import sys
from typing import BinaryIO

_SECTION = b".AsyncioDebug"
# Of Py_AsyncioModuleDebugOffsets: seven words about tasks, two about the interpreter, then size, running loop,
# running task and task list of the thread state.
_WORDS = 13
_RUNNING_LOOP = 10
_RUNNING_TASK = 11


def offsets() -> tuple[int, int] | None:
    """Offsets of running loop and running task in bytes, or None if this interpreter does not say."""
    import _asyncio

    path = getattr(_asyncio, "__file__", None) or os.path.realpath(sys.executable)
    try:
        with open(path, "rb") as binary:
            words = _section(binary)
    except (OSError, struct.error):
        return None
    return (words[_RUNNING_LOOP], words[_RUNNING_TASK]) if words else None


def _section(binary: BinaryIO) -> tuple[int, ...] | None:
    """The section's words, from a little-endian 64-bit ELF file."""
    header = binary.read(64)
    if header[:6] != b"\x7fELF\x02\x01":
        return None
    (table,) = struct.unpack_from("<Q", header, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", header, 0x3A)
    binary.seek(table)
    entries = binary.read(entry_size * count)

    def place(index: int) -> tuple[int, int, int]:
        (name,) = struct.unpack_from("<I", entries, index * entry_size)
        offset, size = struct.unpack_from("<QQ", entries, index * entry_size + 0x18)
        return name, offset, size

    _, names_offset, names_size = place(names_index)
    binary.seek(names_offset)
    names = binary.read(names_size)
    for index in range(count):
        name, offset, size = place(index)
        if names[name : names.find(b"\0", name)] == _SECTION and size >= 8 * _WORDS:
            binary.seek(offset)
            return struct.unpack(f"<{_WORDS}Q", binary.read(8 * _WORDS))
    return None
