"""The page's server: who may come in, what may be said, and that bad manners harm nobody else."""

import asyncio
import json
import random
import time

import aiohttp
import pytest
from players import make_session

from worldmodels.play import server as module
from worldmodels.play.server import BadMessage, Server, parsed


def serve(check, **options):
    """Run `check(server, address, client)` beside a server."""

    async def everything():
        server = Server(lambda: make_session(real=True), "A dream", frames_per_second=100, **options)
        runner, address = await server.start(0)
        try:
            async with aiohttp.ClientSession() as client:
                await check(server, address, client)
        finally:
            await runner.cleanup()

    asyncio.run(asyncio.wait_for(everything(), 60))


def socket_of(address):
    return address.replace("/?", "/play?"), {"Origin": address.split("/?")[0]}


async def join(client, address):
    url, headers = socket_of(address)
    socket = await client.ws_connect(url, headers=headers)
    assert (await socket.receive_json())["type"] == "hello"
    return socket


async def until(socket, condition):
    """The first view that fulfils the condition, of the next hundred."""
    for _ in range(100):
        view = await socket.receive_json(timeout=10)
        if condition(view):
            return view
    raise AssertionError("it never came")


async def closing_code(socket):
    """The code the server closes with; `close_code` is 1006 where the line is down before the client has answered."""
    while not socket.closed:
        message = await socket.receive(timeout=10)
        if message.type == aiohttp.WSMsgType.CLOSE:
            return message.data
    return socket.close_code


async def views(socket, count):
    return [await socket.receive_json(timeout=10) for _ in range(count)]


def test_the_page_and_who_may_have_it():
    async def check(server, address, client):
        async with client.get(address) as answer:
            page = await answer.text()
            policy = answer.headers["Content-Security-Policy"]
        assert answer.status == 200 and "<title>A dream</title>" in page and "{{" not in page
        nonce = policy.split("'nonce-")[1].split("'")[0]
        assert f'<script nonce="{nonce}">' in page and "default-src 'none'" in policy
        assert address.startswith("http://127.0.0.1:")
        bare = address.split("?")[0]
        for url, headers in (
            (bare, {}),
            (bare + "?token=wrong", {}),
            (bare + "?token=é", {}),
            (address, {"Host": "evil.example"}),
            (address, {"Host": "evil.example:80"}),
        ):
            async with client.get(url, headers=headers) as answer:
                assert answer.status == 403
        url, good = socket_of(address)
        for wrong, headers in (
            (url, {}),
            (url, {"Origin": "http://evil.example"}),
            (url, {"Origin": "null"}),
            (url.split("?")[0], good),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(wrong, headers=headers)
            assert refused.value.status == 403
        assert not server.players

    serve(check)


def test_tokens_differ():
    assert Server(make_session, "a").token != Server(make_session, "a").token


def test_a_player_sees_frames_pauses_steps_and_resets():
    async def check(server, address, client):
        socket = await join(client, address)
        shown = await views(socket, 12)
        assert shown[-1]["step"] > shown[0]["step"] == 0 and len({view["dream"] for view in shown}) > 6
        await socket.send_json({"type": "pause", "on": True})
        await socket.send_json({"type": "reset", "seed": 3})
        await until(socket, lambda view: view["step"] == 0)
        for number in (1, 2):
            await socket.send_json({"type": "step"})
            await until(socket, lambda view, number=number: view["step"] == number)
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.3)
        # a socket that timed out is of no more use
        socket = await join(client, address)
        await socket.send_json({"type": "real", "on": True})
        await until(socket, lambda view: view["real"] and view["seen"])
        await socket.send_json({"type": "latent", "index": 1, "value": 2.5})
        await until(socket, lambda view: view["z"][1] == 2.5)

    serve(check)


GOOD = [
    {"type": "keys", "left": True, "right": False, "up": False, "down": False},
    {"type": "temperature", "temperature": 1},
    {"type": "latent", "index": 0, "value": None},
    {"type": "step"},
    {"type": "reset", "seed": 0},
]
BAD = [
    "",
    "{",
    "[]",
    "null",
    '"step"',
    '{"type": "shout"}',
    '{"type": ["step"]}',
    '{"type": "step", "more": 1}',
    '{"type": "keys", "left": true}',
    '{"type": "keys", "left": 1, "right": false, "up": false, "down": false}',
    '{"type": "temperature", "temperature": 0}',
    '{"type": "temperature", "temperature": NaN}',
    '{"type": "temperature", "temperature": 1e999}',
    '{"type": "temperature", "temperature": true}',
    '{"type": "temperature", "temperature": "1"}',
    '{"type": "temperature", "temperature": null}',
    '{"type": "horizon", "horizon": 2.5}',
    '{"type": "reset", "seed": -1}',
    '{"type": "reset", "seed": ' + "9" * 400 + "}",
    '{"type": "latent", "index": 0, "value": 11}',
    '{"type": "reset", "seed": 1' + " " * 1024 + "}",
    "[" * 1000,
]


@pytest.mark.parametrize("message", GOOD, ids=lambda message: message["type"])
def test_what_may_be_said(message):
    assert parsed(json.dumps(message)) == message


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_may_not(text):
    with pytest.raises(BadMessage):
        parsed(text)


def test_hostile_messages_end_their_own_connection_alone(monkeypatch):
    """10,000 of them, over as many connections as it takes, while an honest player plays on."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 60.0)
    random.seed(0)

    async def check(server, address, client):
        honest = await join(client, address)
        counted = 0

        async def watch():
            nonlocal counted
            async for _ in honest:
                counted += 1

        watching = asyncio.create_task(watch())
        url, headers = socket_of(address)
        sent = connections = 0
        while sent < 10_000:
            hostile = await client.ws_connect(url, headers=headers)
            connections += 1
            kind = connections % 4
            try:
                for _ in range(500):
                    sent += 1
                    if kind == 0:
                        await hostile.send_str(random.choice(BAD))
                    elif kind == 1:
                        await hostile.send_bytes(random.randbytes(200))
                    elif kind == 2:
                        await hostile.send_str("x" * 5000)
                    else:  # a flood of good ones
                        await hostile.send_str('{"type": "pause", "on": true}')
            except (ConnectionError, aiohttp.ClientError):
                pass
            assert await closing_code(hostile) in (1003, 1008, 1009, 1006)
        await asyncio.sleep(0.3)
        before = counted
        await honest.send_json({"type": "keys", "left": True, "right": False, "up": False, "down": False})
        await asyncio.sleep(0.5)
        assert counted > before > 0 and not honest.closed, "the honest player still gets frames"
        assert len(server.players) == 1
        watching.cancel()

    serve(check)


def test_worlds_are_closed_after_their_last_step_alone():
    """A player leaves while a slow step runs."""
    order = []

    async def check(server, address, client):
        session = make_session()
        step, close = session.step, session.close

        def slowly():
            order.append("step begins")
            time.sleep(0.4)
            order.append("step ends")
            return step()

        session.step, session.close = slowly, lambda: (order.append("close"), close())
        server.make_session = lambda: session
        socket = await join(client, address)
        await asyncio.sleep(0.2)
        await socket.close()
        while server.players:
            await asyncio.sleep(0.05)

    serve(check)
    assert order[-1] == "close" and order[-2] == "step ends"


def test_a_world_that_fails_ends_its_own_connection(caplog):
    async def check(server, address, client):
        def fail():
            raise RuntimeError("a wheel came off")

        good = server.make_session
        bad = make_session()
        bad.step = fail
        server.make_session = lambda: bad
        socket = await join(client, address)
        assert await closing_code(socket) == 1011
        while server.players:
            await asyncio.sleep(0.05)
        server.make_session = good
        await views(await join(client, address), 3)

    serve(check)
    assert "a wheel came off" in caplog.text


def test_the_server_stops_at_once_with_players_within():
    async def everything():
        server = Server(make_session, "A dream")
        runner, address = await server.start(0)
        async with aiohttp.ClientSession() as client:
            socket = await join(client, address)
            began = time.monotonic()
            closing = asyncio.create_task(closing_code(socket))
            await runner.cleanup()
            assert await closing == 1001 and time.monotonic() - began < 5

    asyncio.run(asyncio.wait_for(everything(), 30))


async def deaf(address):
    """A player who joins as a browser does and then reads nothing."""
    url, headers = socket_of(address)
    host, path = url.removeprefix("http://").split("/", 1)
    name, port = host.split(":")
    reader, writer = await asyncio.open_connection(name, int(port), limit=1024)
    lines = [f"GET /{path} HTTP/1.1", f"Host: {host}", f"Origin: {headers['Origin']}", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    assert b"101" in await reader.readline()
    return writer


def test_who_does_not_read_keeps_no_place(monkeypatch):
    """Four of them; what the kernel takes for them in between is large, so their frames are too."""
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    monkeypatch.setattr(module, "as_text", lambda view: "x" * 4_000_000)

    async def check(server, address, client):
        came = []

        class Counted(set):
            def add(self, player):  # whoever is gone soon, on a busy machine, was here nevertheless
                came.append(player)
                super().add(player)

        server.players = Counted()
        writers = [await deaf(address) for _ in range(4)]
        while len(came) < 4:
            await asyncio.sleep(0.05)
        began = time.monotonic()
        while server.players:
            await asyncio.sleep(0.05)
            assert time.monotonic() - began < 20
        for writer in writers:
            writer.close()
        monkeypatch.undo()
        await views(await join(client, address), 3)

    serve(check)


def test_who_does_not_read_does_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(module, "as_text", lambda view: "x" * 4_000_000)

    async def everything():
        server = Server(make_session, "A dream")
        runner, address = await server.start(0)
        writer = await deaf(address)
        while not server.players:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        began = time.monotonic()
        await runner.cleanup()
        assert time.monotonic() - began < 8
        writer.close()

    asyncio.run(asyncio.wait_for(everything(), 60))


def test_no_more_than_four_and_the_idle_leave(monkeypatch):
    async def check(server, address, client):
        sockets = [await join(client, address) for _ in range(4)]
        url, headers = socket_of(address)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(url, headers=headers)
        assert refused.value.status == 503
        monkeypatch.setattr(module, "IDLE_SECONDS", 0.2)
        assert [await closing_code(socket) for socket in sockets] == [4000] * 4
        await asyncio.sleep(0.1)
        assert not server.players
        monkeypatch.setattr(module, "IDLE_SECONDS", 60.0)
        await join(client, address)

    serve(check)
