"""What 10,000 idle connections add to a server's process, per connection."""

from micro import _idle

TITLE = "memory of an idle connection,"
UNIT = 10_000
UNIT_QUICK = 500
CORES = 2
VARIANTS = ("protocol/fresh", "protocol/used", "streams/fresh", "streams/used")
QUICK = ("streams/used",)


async def memory(count: int, variant: str) -> float:
    return await _idle.memory(count, variant)
