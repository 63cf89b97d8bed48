"""The echo scenarios once more, through TLS: records cut anywhere, and connections that end in the middle of one."""

import ssl
from typing import Any

import pytest
import test_echo
import trustme
from faulted import GENTLE, HARSH, faulted


@pytest.fixture(scope="module", autouse=True)
def contexts() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    CONTEXTS[:] = [server, client]


CONTEXTS: list[ssl.SSLContext] = []


@faulted(GENTLE)
async def test_protocols_notice_nothing_of_gentle_faults(random: Any) -> None:
    await test_echo.protocols(random, CONTEXTS)


@faulted(HARSH)
async def test_protocols(random: Any) -> None:
    await test_echo.protocols(random, CONTEXTS)


@faulted(GENTLE)
async def test_streams_notice_nothing_of_gentle_faults(random: Any) -> None:
    await test_echo.streams(random, CONTEXTS)


@faulted(HARSH)
async def test_streams(random: Any) -> None:
    await test_echo.streams(random, CONTEXTS)
