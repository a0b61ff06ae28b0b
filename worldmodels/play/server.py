"""The page and its WebSocket, for the person at this machine alone."""

from __future__ import annotations

import asyncio
import base64
import hmac
import html
import json
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from aiohttp import WSMsgType, web

from .keys import KEYS
from .session import Session, View

HOST = "127.0.0.1"
PAGE = Path(__file__).with_name("page.html")
MESSAGE_BYTES = 1024
MESSAGES_PER_SECOND = 60
PLAYERS = 4
IDLE_SECONDS = 300.0
PATIENCE = 8.0  # seconds that one message may wait for a browser that does not read
FRAMES_PER_SECOND = 25.0
# the values that a message may set, by the name of its field: type, lowest, highest
NUMBERS = {
    "temperature": (float, 0.05, 3.0),
    "horizon": (int, 1, 100_000),
    "seed": (int, 0, 2**31 - 1),
    "index": (int, 0, 10_000),
    "value": (float, -10.0, 10.0),
}
SCHEMA: dict[str, tuple[str, ...]] = {  # what else a message of each type has: a field of NUMBERS, or a truth value
    "keys": KEYS,
    "temperature": ("temperature",),
    "horizon": ("horizon",),
    "latent": ("index", "value"),  # value null: let go
    "controller": ("on",),
    "real": ("on",),
    "jump": ("real",),
    "pause": ("on",),
    "step": (),
    "reset": ("seed",),
}


class BadMessage(Exception):
    """A message that is not one of SCHEMA."""


def parsed(text: str) -> dict[str, Any]:
    """A message's fields. Raises BadMessage for anything that SCHEMA does not know."""
    if len(text.encode()) > MESSAGE_BYTES:
        raise BadMessage("too long")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadMessage("not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str) or message["type"] not in SCHEMA:
        raise BadMessage("unknown type")
    fields = SCHEMA[message["type"]]
    if set(message) != {"type", *fields} or not all(_fits(name, message[name]) for name in fields):
        raise BadMessage("not what is expected")
    return message


def _fits(name: str, value: Any) -> bool:
    if name not in NUMBERS:
        return isinstance(value, bool)
    if value is None:
        return name == "value"
    kind, low, high = NUMBERS[name]
    # to Python, a truth value is a whole number as well
    is_number = isinstance(value, kind | int) and not isinstance(value, bool)
    return is_number and low <= value <= high  # which NaN is not


class Player:
    """A connection: its session, whether it runs, what it still has to show, and how to `cut` it off."""

    def __init__(self, socket: web.WebSocketResponse, session: Session, cut: Callable[[], None]):
        self.socket, self.session, self.cut = socket, session, cut
        self.paused, self.steps_due, self.gone = False, 0, False
        self.last_heard = time.monotonic()
        self.allowance, self.counted_at = MESSAGES_PER_SECOND / 2, time.monotonic()
        self.lock = asyncio.Lock()

    def may_speak(self) -> bool:
        """A bucket that holds half of MESSAGES_PER_SECOND and fills with the other half each second."""
        now, half = time.monotonic(), MESSAGES_PER_SECOND / 2
        self.allowance = min(half, self.allowance + (now - self.counted_at) * half)
        self.counted_at, self.last_heard = now, now
        self.allowance -= 1
        return self.allowance >= 0

    def obey(self, message: dict[str, Any]) -> View | None:
        """Carry a message out; what is to be shown at once."""
        session, kind = self.session, message["type"]
        if kind == "keys":
            session.held = frozenset(key for key in KEYS if message[key])
        elif kind in ("temperature", "horizon"):
            setattr(session, kind, message[kind])
        elif kind == "controller":
            session.controller_drives = message["on"]
        elif kind == "pause":
            self.paused = message["on"]
        elif kind == "step":
            self.paused, self.steps_due = True, self.steps_due + 1
        elif kind == "reset":
            return session.reset(message["seed"])
        elif kind == "real":
            return session.show_real(message["on"])
        elif kind == "jump":
            return session.jump(message["real"])
        elif message["index"] < session.vision.latent_dim:
            return session.set_latent(message["index"], message["value"])
        return None

    async def run(self, frames_per_second: float) -> None:
        """Step and show, until the connection or the person is gone; never cancelled, since a thread may be within."""
        due = time.monotonic()
        while not (self.socket.closed or self.gone):
            if time.monotonic() - self.last_heard > IDLE_SECONDS:
                await self.leave(4000, "idle")
                return
            if not self.paused or self.steps_due:
                self.steps_due = max(0, self.steps_due - 1)
                async with self.lock:  # in a thread: the other players' messages are heard meanwhile
                    view = await asyncio.to_thread(self.session.step)
                await self.show(view)
            due = max(due + 1 / frames_per_second, time.monotonic() - 1)
            await asyncio.sleep(max(0.001, due - time.monotonic()))

    async def leave(self, code: int, why: str) -> None:
        """Close the connection; cut off a browser that does not answer."""
        try:
            async with asyncio.timeout(PATIENCE / 4):
                await self.socket.close(code=code, message=why.encode())
        except TimeoutError:
            self.gone = True
            self.cut()

    async def show(self, view: View) -> None:
        await self.send(as_text(view))

    async def send(self, text: str) -> None:
        """To the browser; one that does not read loses its connection, or it would keep its place for good."""
        if self.socket.closed or self.gone:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self.socket.send_str(text)
        except ConnectionError:
            pass
        except TimeoutError:
            self.gone = True
            self.cut()


def as_text(view: View) -> str:
    """A view as JSON; frames as PNG in base64."""
    content = view._asdict()
    for name in ("dream", "real", "seen"):
        frame = content[name]
        if frame is not None:
            _, png = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2BGR))
            content[name] = base64.b64encode(png.tobytes()).decode()
    content["z"] = [round(value, 3) for value in content["z"]]
    return json.dumps({"type": "view", **content})


class Server:
    """Serves PAGE to whoever holds the token, and plays with at most PLAYERS of them at once.

    make_session: a new player's worlds. The address is bound to this machine; `Host` and `Origin` must name it, else
    another site's page in the same browser could reach the socket.
    """

    def __init__(self, make_session: Callable[[], Session], title: str, frames_per_second: float = FRAMES_PER_SECOND):
        self.make_session, self.title, self.frames_per_second = make_session, title, frames_per_second
        self.token = secrets.token_urlsafe(16)
        self.players: set[Player] = set()
        self.expected: set[str] = set()
        self.app = web.Application(middlewares=[self._only_from_here])
        self.app.on_shutdown.append(self._send_all_home)
        self.app.router.add_get("/", self._page)
        self.app.router.add_get("/play", self._play)

    async def start(self, port: int) -> tuple[web.AppRunner, str]:
        """Listen; returns the runner to clean up, and the address with its token. Port 0: any free one."""
        runner = web.AppRunner(self.app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, HOST, port)
        await site.start()
        port = runner.addresses[0][1]
        self.expected = {f"{name}:{port}" for name in (HOST, "localhost")}
        return runner, f"http://{HOST}:{port}/?token={self.token}"

    @web.middleware
    async def _only_from_here(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Host") not in self.expected:
            raise web.HTTPForbidden(text="wrong host")
        if not hmac.compare_digest(request.query.get("token", "").encode(), self.token.encode()):
            raise web.HTTPForbidden(text="wrong token: open the address that the program printed")
        return await handler(request)

    async def _page(self, request: web.Request) -> web.Response:
        nonce = secrets.token_urlsafe(12)
        text = PAGE.read_text().replace("{{nonce}}", nonce).replace("{{title}}", html.escape(self.title))
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "img-src data: blob:; media-src blob:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _play(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Origin") not in {f"http://{host}" for host in self.expected}:
            raise web.HTTPForbidden(text="wrong origin")
        if len(self.players) >= PLAYERS:
            raise web.HTTPServiceUnavailable(text=f"{PLAYERS} players are here already")
        socket = web.WebSocketResponse(max_msg_size=MESSAGE_BYTES, heartbeat=30.0, timeout=PATIENCE / 4)
        await socket.prepare(request)
        transport = request.transport
        assert transport is not None, "the handshake has just used it"
        player = Player(socket, self.make_session(), transport.abort)
        self.players.add(player)
        showing = asyncio.create_task(self._greet_and_run(player))
        try:
            await self._listen(player)
        finally:
            player.gone = True
            await asyncio.shield(self._see_off(player, showing))
        return socket

    async def _see_off(self, player: Player, showing: asyncio.Task[None]) -> None:
        """Once its last step is over, close the player's worlds and free the place."""
        await asyncio.gather(showing, return_exceptions=True)
        async with player.lock:
            player.session.close()
        self.players.discard(player)

    async def _send_all_home(self, _: web.Application) -> None:
        await asyncio.gather(*(player.leave(1001, "the server stops") for player in self.players))

    async def _greet_and_run(self, player: Player) -> None:
        try:
            await self._greet(player)
            await player.run(self.frames_per_second)
        except ConnectionError:
            pass
        except Exception:
            logging.getLogger(__name__).exception("a player's world has failed")
            await player.leave(1011, "the world has failed")

    async def _greet(self, player: Player) -> None:
        session = player.session
        facts = {
            "title": self.title,
            "latent_dim": session.vision.latent_dim,
            "controller": session.act is not None,
            "real": session.make_real is not None,
            "seed": session.seed,
            "keys": session.keys.does,
            "idle": session.keys.idle_does,
        }
        await player.send(json.dumps({"type": "hello", **facts}))
        await player.show(session.view())

    async def _obeyed(self, player: Player, order: dict[str, Any]) -> View | None:
        async with player.lock:
            return await asyncio.to_thread(player.obey, order)

    async def _listen(self, player: Player) -> None:
        """Until the connection ends, or says something that it must not."""
        async for message in player.socket:
            if message.type != WSMsgType.TEXT:
                await player.leave(1003, "text alone")
            elif not player.may_speak():
                await player.leave(1008, "too many messages")
            else:
                try:
                    order = parsed(message.data)
                except BadMessage as error:
                    await player.leave(1008, str(error))
                    continue
                view = await asyncio.shield(self._obeyed(player, order))
                if view is not None:
                    await player.show(view)
