"""The web server: the page, what it must know, and one websocket for each page that is open.

Whoever can reach the port can only look and play: a page sends numbers, see `session.understand`, and no answer has a
path of this machine. Browsers are kept from being used by other sites against it: `Host` must be this machine's own
name, and a websocket must come from our own page.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from cluster.play.session import Session, understand
from replay.errors import UserError

log = logging.getLogger("play")
PAGE = Path(__file__).parent / "page"
COOKIE = "token_to_play"
TOKEN = re.compile(r"[A-Za-z0-9_-]{12,200}")  # what fits into an address, and is not guessed
MOST_PAGES = 8  # open at the same time
LONGEST = 200  # bytes of a message
HEARTBEAT = 20.0  # seconds without a sign of life after which a page counts as closed
GOODBYE = 2.0  # seconds that open pages get when the server ends
ANSWER_SECONDS = 10.0  # that its thread may take for the beginning and for the end

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Offer(NamedTuple):
    """What is served."""

    about: dict[str, Any]  # dream.json
    open_session: Callable[[int], Session]  # of a seed


class Address(NamedTuple):
    """Where, and for whom."""

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")


def check_address(address: Address) -> None:
    """Raises UserError where strangers could come in."""
    if address.token is not None and not TOKEN.fullmatch(address.token):
        raise UserError("--token must be at least 12 letters, digits, - or _: take that of openssl rand -hex 16")
    if not is_this_machine(address.host) and address.token is None:
        raise UserError(f"--host {address.host} can be reached by others: add --token WORD, or leave --host away")


def is_this_machine(host: str) -> bool:
    """Whether nobody else can reach it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@contextmanager
def serving(offer: Offer, address: Address) -> Iterator[None]:
    """Serves, on a thread, while the body runs. Raises UserError where the port is taken."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="play", daemon=True).start()

    def do(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(ANSWER_SECONDS)

    runner = web.AppRunner(make_app(offer, address), access_log=None, shutdown_timeout=GOODBYE)
    try:
        do(runner.setup())
        try:
            do(web.TCPSite(runner, address.host, address.port).start())
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"port {address.port} cannot be taken ({reason}): choose another --port or --host"
            ) from error
        yield
    finally:
        with suppress(TimeoutError):
            do(runner.cleanup())
        loop.call_soon_threadsafe(loop.stop)


def make_app(offer: Offer, address: Address) -> web.Application:
    """All that can be asked for: /, the files of the page by name, /dream.json and /dream."""
    app = web.Application(middlewares=[guard(address)], client_max_size=LONGEST)
    files = {path.name: path for path in PAGE.iterdir() if path.suffix in (".html", ".js", ".css", ".svg")}
    pages: set[web.WebSocketResponse] = set()

    async def file(request: web.Request) -> web.StreamResponse:
        path = files.get(request.match_info.get("name") or "index.html")
        if path is None:
            raise web.HTTPNotFound(text="there is no such file\n")
        return web.FileResponse(path)

    async def about(request: web.Request) -> web.StreamResponse:
        return web.json_response(offer.about)

    async def dream(request: web.Request) -> web.StreamResponse:
        if not is_own_page(request):
            raise web.HTTPForbidden(text="only the page of this server may play\n")
        if len(pages) >= MOST_PAGES:
            raise web.HTTPServiceUnavailable(text=f"{MOST_PAGES} pages are open: close one\n")
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=LONGEST)
        pages.add(socket)
        try:
            await socket.prepare(request)
            await play(socket, offer, seed=len(pages))
        finally:
            pages.discard(socket)
        return socket

    async def end(_: web.Application) -> None:
        for socket in list(pages):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server ends")

    app.router.add_get("/dream.json", about)
    app.router.add_get("/dream", dream)
    app.router.add_get("/", file)
    app.router.add_get("/{name}", file)
    app.on_shutdown.append(end)
    return app


async def play(socket: web.WebSocketResponse, offer: Offer, *, seed: int) -> None:
    """One page, until it is closed. What is no request of our page ends it."""
    session = await asyncio.to_thread(offer.open_session, seed)
    try:
        async for message in socket:
            try:
                if message.type is not WSMsgType.TEXT:
                    raise ValueError("text is expected")
                kinds = {"starts": len(offer.about["starts"]), "actions": len(offer.about["actions"])}
                asked = understand(message.data, **kinds)
            except ValueError as error:
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=str(error).encode()[:120])
                return
            await socket.send_json(await asyncio.to_thread(session.answer, asked))
    except ConnectionError:
        log.debug("a page was closed while it was answered")
    finally:
        session.close()


# --- Who may come in ---


def guard(address: Address) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """Lets nobody in who asks under a foreign name or, where there is a token, without it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if address.token is None:
            if not is_this_machine(urlsplit(f"//{request.host}").hostname or ""):
                raise web.HTTPForbidden(text="ask for 127.0.0.1 or localhost\n")
            return safe(await handler(request))
        given = request.query.get("token") or request.cookies.get(COOKIE, "")
        if not hmac.compare_digest(given.encode(), address.token.encode()):
            raise web.HTTPForbidden(text="the address lacks ?token=..., as the command line has printed it\n")
        response = await handler(request)
        if "token" in request.query and not response.prepared:
            response.set_cookie(COOKIE, address.token, httponly=True, samesite="Strict")
        return safe(response)

    return middleware


def is_own_page(request: web.Request) -> bool:
    """Browsers say of a websocket which page has opened it."""
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc == request.host


def safe(response: web.StreamResponse) -> web.StreamResponse:
    """What browsers are told beside the answer."""
    if not response.prepared:
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
    return response
