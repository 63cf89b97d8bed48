"""One server of bench/servers on the selected loop, in a process of its own.

Prints a JSON line with its port as soon as it serves, then runs until it is killed. The load client reads this
process's CPU time from the kernel, so nothing but the server runs here.
"""

import argparse
import importlib
import inspect
import json
import socket

from harness.loops import loop_types, runner_for


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("--factory")
    parser.add_argument("--size", type=int, default=0, help="of a message, for servers that must know it")
    options = parser.parse_args()
    server = importlib.import_module(f"servers.{options.server}")
    # The protocol is named because asyncio sets TCP_NODELAY only on sockets that say TCP themselves; the ones that
    # create_server(host, port) makes do. Without it, two writes per answer wait 40 ms for the delayed ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    listener.setblocking(False)
    knows = {"size": options.size} if "size" in inspect.signature(server.serve).parameters else {}
    report = {"port": listener.getsockname()[1]}
    with runner_for(options.factory) as runner:
        report |= runner.run(loop_types())
        runner.run(server.serve(listener, lambda: print(json.dumps(report), flush=True), **knows))


if __name__ == "__main__":
    main()
