"""Subclasses of ssl.SSLContext and objects that act like one work; what cannot work raises a TypeError that says which
argument it was. uvloop#246 (pyOpenSSL's contexts). Stock asyncio raises AttributeError for those, and for a server only
when somebody connects, where nobody sees it.
"""

import asyncio
import ssl

import pytest
from tls_wires import Scene, client_context, engine, folder, server_context  # noqa: F401
from wires import Recorder
from worlds import araised, until


class Acts:
    """No SSLContext, but it wraps like one."""

    def __init__(self, context):
        self.context = context

    def wrap_bio(self, *args, **kwargs):
        return self.context.wrap_bio(*args, **kwargs)


class Like:
    """pyOpenSSL's Context has none of the ssl module's methods."""

    def __repr__(self):
        return "<a context of another library>"


class Own(ssl.SSLContext):
    pass


@pytest.mark.parametrize("kind", ["acts", "subclass"])
def test_what_works(world, engine, kind):  # noqa: F811
    if kind == "acts":
        context = Acts(client_context())
    else:
        context = Own(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(folder() / "ca.pem")

    async def main():
        with Scene(world) as s:
            await s.connect(context=context)
            s.transport.write(b"hello")
            await s.peer.write(await s.peer.read(5))
            await until(lambda: s.proto.received)
            s.transport.abort()
            await until(lambda: s.proto.is_lost)
            return bytes(s.proto.received)

    assert world.run(main, errors=[]) == b"hello"


def test_connecting_names_the_argument(ours):
    async def main():
        with Scene(ours) as s:
            return await araised(s.begin(context=Like()))

    kind, text = ours.run(main, errors=[])
    assert kind == "TypeError"
    assert "ssl" in text
    assert "<a context of another library>" in text


def test_serving_names_the_argument_at_once(ours):
    async def main():
        loop = asyncio.get_running_loop()
        return await araised(loop.create_server(Recorder, "127.0.0.1", 0, ssl=Like()))

    kind, text = ours.run(main, errors=[])
    assert kind == "TypeError"
    assert "<a context of another library>" in text


def test_upgrading_names_the_argument(ours):
    async def main():
        with Scene(ours) as s:
            await s.connect()
            answer = await araised(s.loop.start_tls(s.transport, s.proto, Like()))
            s.transport.abort()
            await until(lambda: s.proto.is_lost)
            return answer

    kind, text = ours.run(main, errors=[])
    assert kind == "TypeError"
    assert "sslcontext" in text


def test_a_server_context_still_serves(ours, engine):  # noqa: F811
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=Acts(server_context()))
        transport, proto = await loop.create_connection(
            lambda: Recorder([]), *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        transport.close()
        await until(lambda: proto.is_lost)
        server.close()
        await server.wait_closed()
        return True

    assert ours.run(main, errors=[])
