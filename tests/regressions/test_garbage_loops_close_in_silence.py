"""A loop that nobody closes, found in a cycle together with its sockets, closes itself without a complaint.

The collector finalises the members of a cycle in an order of its own; where the loop's own sockets came first,
`close()` failed at the number -1. Found by tests/fuzz/test_shutdown.py.
"""

PROGRAM = """
import gc
gc.disable()
gc.collect()
loop = new_event_loop()
loop.run_until_complete(aio.sleep(0))
loop.me = loop
# A collection puts what it reaches behind what it does not, and a list is walked from its end.
holder = [loop, loop._csock, loop._ssock]
del loop
gc.collect()
del holder
gc.collect()
print("gone")
"""


def test_the_order_of_finalisers_does_not_matter(ours):
    done = ours.program(PROGRAM, python=("-W", "ignore"))
    assert (done.status, done.out, done.err) == (0, "gone\n", "")
