"""What 1,000 idle connections over TLS add to a server's process, per connection; most of it is OpenSSL's."""

from harness.certificate import server_context
from micro import _idle

TITLE = "memory of an idle TLS connection,"
UNIT = 1_000
UNIT_QUICK = 100
CORES = 2
VARIANTS = ("protocol/fresh", "protocol/used", "streams/fresh", "streams/used")
QUICK = ("streams/used",)


async def memory(count: int, variant: str) -> float:
    return await _idle.memory(count, variant, server_context())
