"""Serve the page to play in the dream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import torch

from .. import checkpoints
from ..envs.car_racing import scored
from ..envs.make import make_env
from ..envs.spaces import action_names
from ..errors import UserError
from ..play.server import Server
from ..play.session import Session
from ..worlds.dream_world import contexts_from_plain
from .driving import ACTORS, Models
from .settings import env_settings

SHIPPED = Path(__file__).parents[1] / "play" / "shipped" / "controller.safetensors"


def make_server(
    checkpoint: str | Path | None = None, vision: str | Path | None = None, memory: str | Path | None = None
) -> Server:
    """A server of the dream of M, with C at the wheel on request.

    checkpoint: of a C that was trained with a model, whose V and M are where it says; or `vision` and `memory` name
    them; with none of the three, the one that ships with the package. Raises UserError where they do not belong
    together.
    """
    act, sees = None, "z_h"
    if checkpoint is None and vision is None and memory is None:
        checkpoint = SHIPPED
    if checkpoint is not None:
        read = checkpoints.read(checkpoint, *ACTORS)
        if read.facts["memory"] is None or read.facts["random_memory"] is not None:
            raise UserError(f"{checkpoint} was trained without a model that has learned; pass a C of train_controller")
        vision, memory = vision or read.facts["vision"], memory or read.facts["memory"]
        sees = read.facts["sees"]
        if sees == "z4":
            raise UserError(
                f"{checkpoint} sees the last four z, which a dream does not have; pass one that sees z and h"
            )
        actor, _ = ACTORS[read.kind].load(checkpoint)
        act = actor.act
    if vision is None or memory is None:
        raise UserError("nothing to play in; pass checkpoint=runs/train_controller/…/last.ckpt, or vae=… and mdnrnn=…")
    models = Models(vision, memory, torch.device("cpu"))
    if checkpoint is not None:
        for name, found in (("V", models.vision_checkpoint), ("M", models.memory_checkpoint)):
            wanted = read.facts["vision_sha256" if name == "V" else "memory_sha256"]
            checkpoints.require_same(name, wanted, found, f"C {checkpoint}")
    contexts = contexts_from_plain(models.memory_checkpoint.facts["contexts"], torch.device("cpu"))
    if contexts.reward.shape[1] == 0:
        raise UserError(f"{memory} holds no start for a dream; its episodes were shorter than memory.context")
    environment: dict[str, Any] = models.environment
    make_real = partial(make_env, env_settings(scored(environment, stock=False)))
    make_session = partial(
        Session,
        models.vision,
        models.memory.network,
        contexts,
        environment["action"],
        act,
        sees,
        *_real(make_real, environment["action"]),
    )
    return Server(make_session, f"A dream of {environment['id'].split('/')[-1]}")


def _real(
    make_real: Callable[[], gymnasium.Env], action_space: dict[str, Any]
) -> tuple[Callable[[], gymnasium.Env] | None, list[str] | None]:
    """What a session makes the real environment with, None where its package is missing, and its actions' names."""
    if action_space["type"] != "discrete":
        return make_real, None
    try:
        probe = make_real()
    except UserError as error:
        print(f"without the real world: {error}", flush=True)
        return None, None
    try:
        return make_real, action_names(probe)
    finally:
        probe.close()


def play(port: int, threads: int = 1, **models: str | Path | None) -> None:
    """Serve until interrupted. Small networks are slower on several threads."""
    torch.set_num_threads(threads)
    server = make_server(**models)

    async def serve() -> None:
        try:
            runner, address = await server.start(port)
        except OSError as error:
            raise UserError(f"cannot listen on port {port} ({error.strerror}); choose another with port=0") from error
        print(f"play at {address}  (Ctrl-C ends it)", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    asyncio.run(serve())
