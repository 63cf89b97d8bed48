"""How many connections, for the server's process and for the peers' alike."""

import os

FULL = os.environ.get("LOAD") == "full"
IDLE = int(os.environ.get("ASYNCHROTRON_LOAD_IDLE", "10000" if FULL else "1000"))
BUSY = int(os.environ.get("ASYNCHROTRON_LOAD_BUSY", "1000" if FULL else "100"))
SEED = int(os.environ.get("ASYNCHROTRON_LOAD_SEED", "1"))

# What a slow peer asks for: several times what the kernel and the server together may hold for it.
POUR_LEN = 1024 * 1024
CHUNK_LEN = 16 * 1024
HIGH_LEN = 64 * 1024
LOW_LEN = 16 * 1024
# Of the sockets whose peers are slow, so that the kernel does not take all of it.
KERNEL_LEN = 64 * 1024
