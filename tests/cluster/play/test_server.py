"""Who may come in, and what the server says: over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from cluster.play import server
from cluster.play.server import PAGE, Address, check_address, is_this_machine, serving
from replay.errors import UserError
from replay.ports import free_port
from tests.cluster.play.conftest import Shipped
from tests.cluster.tiny import ROOT

TOKEN = "a-word-nobody-guesses"
SECONDS = aiohttp.ClientTimeout(total=60)
Visit = Callable[[aiohttp.ClientSession, str], Awaitable[Any]]


def visit(shipped: Shipped, script: Visit, *, token: str | None = None) -> Any:
    """Serves, and runs script(client, address without the token)."""
    address = Address("127.0.0.1", free_port(0), token)

    async def run() -> Any:
        async with aiohttp.ClientSession(timeout=SECONDS) as client:
            return await asyncio.wait_for(script(client, f"http://127.0.0.1:{address.port}"), 60)

    with serving(shipped.offer(), address):
        return asyncio.run(run())


def own(url: str) -> dict[str, str]:
    """What a browser says of a websocket that our page opens."""
    return {"Origin": url}


# --- The page ---


def test_the_page_comes_with_all_its_files_and_nothing_else(shipped: Shipped) -> None:
    async def script(client: aiohttp.ClientSession, url: str) -> None:
        for name in ("", *(path.name for path in PAGE.iterdir())):
            async with client.get(f"{url}/{name}") as answer:
                assert answer.status == 200, name
                assert await answer.read() == (PAGE / (name or "index.html")).read_bytes()
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        for name in ("nothing", "server.py", "..%2Fserver.py", "%2e%2e/server.py", "page/main.js", "dream.json/x"):
            async with client.get(f"{url}/{name}") as answer:
                assert answer.status == 404, name

    visit(shipped, script)


def test_what_is_told_has_no_path_of_this_machine(shipped: Shipped) -> None:
    async def script(client: aiohttp.ClientSession, url: str) -> str:
        async with client.get(f"{url}/dream.json") as answer, client.ws_connect(f"{url}/dream", headers=own(url)) as ws:
            await ws.send_json({"start": 1})
            return await answer.text() + await ws.receive_str()

    told = visit(shipped, script)
    assert str(ROOT) not in told and "deploy" not in told and "agents" not in told


def test_two_pages_dream_by_themselves(shipped: Shipped) -> None:
    async def script(client: aiohttp.ClientSession, url: str) -> None:
        async with (
            client.ws_connect(f"{url}/dream", headers=own(url)) as one,
            client.ws_connect(f"{url}/dream", headers=own(url)) as other,
        ):
            await one.send_json({"start": 3})
            await other.send_json({"start": 8})
            first, second = await one.receive_json(), await other.receive_json()
            assert first["picture"] != second["picture"]
            for _ in range(3):
                await one.send_json({"action": 2, "temperature": 1})
                first = await one.receive_json()
            await other.send_json({"action": 3, "temperature": 1})
            second = await other.receive_json()
            assert (first["steps"], second["steps"]) == (3, 1)

    visit(shipped, script)


# --- Who may not ---


@pytest.mark.parametrize("text", ['{"start": 99}', "nonsense", '{"action": 0, "temperature": 1, "more": 1}', "[" * 190])
def test_a_message_that_is_no_request_of_the_page_ends_it(shipped: Shipped, text: str) -> None:
    async def script(client: aiohttp.ClientSession, url: str) -> None:
        async with client.ws_connect(f"{url}/dream", headers=own(url)) as ws:
            await ws.send_str(text)
            message = await ws.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE and message.data == aiohttp.WSCloseCode.POLICY_VIOLATION
        async with client.ws_connect(f"{url}/dream", headers=own(url)) as ws:  # others are served as before
            await ws.send_json({"start": 0})
            assert (await ws.receive_json())["steps"] == 0

    visit(shipped, script)


def test_long_and_binary_messages_end_it(shipped: Shipped) -> None:
    async def script(client: aiohttp.ClientSession, url: str) -> None:
        for send in ("send_str", "send_bytes"):
            async with client.ws_connect(f"{url}/dream", headers=own(url)) as ws:
                await getattr(ws, send)("9" * 5000 if send == "send_str" else b"1")
                message = await ws.receive()
                assert message.type is aiohttp.WSMsgType.CLOSE

    visit(shipped, script)


def test_other_sites_cannot_use_it_through_a_browser(shipped: Shipped) -> None:
    async def script(client: aiohttp.ClientSession, url: str) -> None:
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "null"}, {}):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await client.ws_connect(f"{url}/dream", headers=headers)
        # A foreign name that was made to point at this machine.
        async with client.get(f"{url}/dream.json", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        async with client.get(url.replace("127.0.0.1", "localhost")) as answer:
            assert answer.status == 200

    visit(shipped, script)


def test_more_pages_than_can_be_served_are_refused(shipped: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_PAGES", 1)

    async def script(client: aiohttp.ClientSession, url: str) -> None:
        async with client.ws_connect(f"{url}/dream", headers=own(url)) as ws:
            await ws.send_json({"start": 0})
            await ws.receive_json()
            with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                await client.ws_connect(f"{url}/dream", headers=own(url))
        for _ in range(100):  # its place is free as soon as the server has seen that it went
            try:
                await (await client.ws_connect(f"{url}/dream", headers=own(url))).close()
                return
            except aiohttp.WSServerHandshakeError:
                await asyncio.sleep(0.05)
        raise AssertionError("the place of a closed page was not given to another")

    visit(shipped, script)


def test_with_a_token_nobody_comes_in_without_it(shipped: Shipped) -> None:
    async def script(client: aiohttp.ClientSession, url: str) -> None:
        for path in ("/", "/main.js", "/dream.json", "/dream", "/?token=", "/?token=wrong-word-here"):
            async with client.get(url + path) as answer:
                assert answer.status == 403, path
        # By name: this client keeps no cookies of a bare number.
        url = url.replace("127.0.0.1", "localhost")
        async with client.get(f"{url}/?token={TOKEN}") as answer:
            assert answer.status == 200
            cookie = answer.cookies[server.COOKIE]
            assert cookie["httponly"] and cookie["samesite"] == "Strict"
        async with client.get(f"{url}/main.js") as answer:  # the cookie is enough
            assert answer.status == 200
        async with client.ws_connect(f"{url}/dream", headers=own(url)) as ws:
            await ws.send_json({"start": 0})
            assert (await ws.receive_json())["steps"] == 0

    visit(shipped, script, token=TOKEN)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (Address("0.0.0.0"), "add --token"),
        (Address("::"), "add --token"),
        (Address("my-host.example"), "add --token"),
        (Address("0.0.0.0", token="short"), "at least 12"),
        (Address(token="with spaces and more"), "at least 12"),
        (Address(token="täglich-neues-wort"), "at least 12"),
    ],
)
def test_an_address_that_lets_strangers_in_is_refused(address: Address, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_address(address)


def test_this_machine_is_known_by_its_names() -> None:
    assert all(map(is_this_machine, ("127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost")))
    assert not any(map(is_this_machine, ("0.0.0.0", "10.0.0.1", "127.0.0.1.example", "localhost.example", "")))
    check_address(Address())
    check_address(Address("0.0.0.0", token=TOKEN))
    assert Address("::1", 80, TOKEN).url == f"http://[::1]:80/?token={TOKEN}"


def test_a_port_that_is_taken_is_said(shipped: Shipped) -> None:
    address = Address("127.0.0.1", free_port(0))
    with (
        serving(shipped.offer(), address),
        pytest.raises(UserError, match=f"port {address.port} cannot be taken .*--port"),
        serving(shipped.offer(), address),
    ):
        raise AssertionError("two servers on one port")
    with serving(shipped.offer(), address):  # free again
        pass


def test_open_pages_hear_of_the_end(shipped: Shipped) -> None:
    """And the port is free at once, whoever is still there."""
    address = Address("127.0.0.1", free_port(0))

    async def run() -> int:
        url = f"http://127.0.0.1:{address.port}"
        async with aiohttp.ClientSession(timeout=SECONDS) as client:
            running = serving(shipped.offer(), address)
            await asyncio.to_thread(running.__enter__)
            ws = await client.ws_connect(f"{url}/dream", headers=own(url))
            await ws.send_json({"start": 0})
            await ws.receive_json()
            ending = asyncio.to_thread(running.__exit__, None, None, None)
            message, _ = await asyncio.gather(ws.receive(), ending)
            return message.data

    assert asyncio.run(asyncio.wait_for(run(), 30)) == aiohttp.WSCloseCode.GOING_AWAY
