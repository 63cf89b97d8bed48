"""python _idle_peers.py PORT tcp|tls: the other ends of idle connections. `connect N` opens so many more; `use` sends a
message over each that has sent none, and awaits it back. Answers `done`."""

import resource
import socket
import ssl
import sys

MESSAGE = bytes(at % 251 for at in range(32 * 1024))


def main() -> None:
    port, link = int(sys.argv[1]), sys.argv[2]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connections: list[socket.socket] = []
    used = 0
    for line in sys.stdin:
        what, *count = line.split()
        if what == "connect":
            for _ in range(int(count[0])):
                made = socket.create_connection(("127.0.0.1", port))
                connections.append(context.wrap_socket(made) if link == "tls" else made)
        else:
            for connection in connections[used:]:
                # In two parts, so that the server meets a message that is not there as a whole.
                connection.sendall(MESSAGE[:1000])
                connection.sendall(MESSAGE[1000:])
                received = b""
                while len(received) < len(MESSAGE):
                    part = connection.recv(64 * 1024)
                    assert part, "the server has closed a connection"
                    received += part
                assert received == MESSAGE
            used = len(connections)
        print("done", flush=True)


if __name__ == "__main__":
    main()
