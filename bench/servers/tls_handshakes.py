"""What a connection costs: handshake, one message, end. The server is that of tls_protocol_echo."""

from servers.tls_protocol_echo import serve

__all__ = ["serve"]
