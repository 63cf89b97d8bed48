"""httpx against uvicorn, FastAPI and httptools in another process (its address in SERVER_URL): JSON, bodies of
megabytes both ways, errors, time limits, keep-alive, many at once, background tasks, threads."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import httpx

from fastapi_application import CHUNK, CHUNKS
from outcome import report

URL = os.environ.get("SERVER_URL", "")
WHOLE = CHUNK * CHUNKS


async def upload() -> AsyncIterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK
        await asyncio.sleep(0)


async def use(client: httpx.AsyncClient) -> None:
    response = await client.post("/items/3", json={"name": "ab", "price": 1.5})
    assert response.json() == {"name": "ababab", "price": 3.0}
    assert (await client.post("/items/3", json={"name": "ab"})).status_code == 422
    assert (await client.get("/thread")).json() == {"in_loop": False}
    missing = await client.get("/missing")
    assert missing.status_code == 404
    assert missing.json() == {"detail": "nothing here"}

    expected = hashlib.sha256(WHOLE).hexdigest()
    assert (await client.post("/digest", content=WHOLE)).text == expected
    assert (await client.post("/digest", content=upload())).text == expected
    digest = hashlib.sha256()
    async with client.stream("GET", "/stream") as streamed:
        async for chunk in streamed.aiter_bytes():
            digest.update(chunk)
    assert digest.hexdigest() == expected

    await client.post("/note", params={"text": "remembered later"})
    async with asyncio.timeout(10):
        while "remembered later" not in (await client.get("/noted")).json():
            await asyncio.sleep(0.01)

    try:
        await client.get("/slow", timeout=httpx.Timeout(20, read=0.1))
    except httpx.ReadTimeout:
        pass
    else:
        raise AssertionError("the slow request did not time out")

    request = asyncio.create_task(client.get("/slow"))
    await asyncio.sleep(0.05)
    request.cancel()
    assert isinstance((await asyncio.gather(request, return_exceptions=True))[0], asyncio.CancelledError)

    responses = await asyncio.gather(*(client.get("/loop") for _ in range(200)))
    assert all(response.status_code == 200 for response in responses)


async def main() -> None:
    async with httpx.AsyncClient(base_url=URL, timeout=20) as client:
        await use(client)
        response = await client.get("/loop")
        # The test compares this with the loop the server was asked for.
        print("server loop:", response.json()["loop"])
    report("httpx: 210 requests to uvicorn in another process")


if __name__ == "__main__":
    asyncio.run(main())
