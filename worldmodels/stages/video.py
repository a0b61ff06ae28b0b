"""Film an episode beside its reconstruction and its dream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..envs.make import versions
from ..envs.seeding import environment_seed
from ..envs.spaces import as_features, restore
from ..errors import UserError
from ..evaluation.pictures import beside, captioned, enlarge, grid, write_png, write_webm, write_webp
from ..evaluation.plots import error_strip
from ..rollouts.behaviours import make_behaviour
from ..rollouts.collect import play
from ..tracking import Run, StageResult, pick_device
from ..types import Episode
from ..worlds.dream_world import DreamWorld, contexts_from_plain
from .driving import Models, load_driver
from .settings import open_envs


@torch.no_grad()
def dream_video(
    run: Run,
    vision: str | Path,
    memory: str | Path,
    steps: int,
    skip: int,
    temperature: float,
    seed: int,
    behaviour: str = "brownian",
    checkpoint: str | Path | None = None,
    fps: float = 12.5,
    held: Sequence[Any] = (),
    temperatures: Sequence[float] = (),
    clip: bool = False,
    device: str = "auto",
) -> StageResult:
    """One held-out episode three times: real, reconstructed by V, and dreamt by M under the same actions.

    The dream sees the first `skip` real steps, which warm M up, and from there only the actions. filmstrip.png has ten
    frames of each, and below them the dream's squared error a pixel against its steps. held: actions, each
    kept up from there on in a dream of its own, side by side in actions.png; temperatures: of dreams under the
    episode's actions, in temperatures.png. All of them begin at one state and take the same random numbers. clip: the
    film as clip.webp as well, which a README shows.
    """
    where = pick_device(device)
    models = Models(vision, memory, where)
    environment = models.environment
    torch.manual_seed(seed)
    if checkpoint is not None:
        chooser, driven, parts = load_driver(checkpoint, 1, device)
        if driven != environment:
            raise UserError(f"{checkpoint} drives another environment than {memory} dreams of; pass its own memory")
    else:
        chooser, parts = make_behaviour(behaviour, restore(environment["action"])), {}
    inputs = {"vision": Path(vision), "memory": Path(memory), **parts}
    with closing(open_envs(environment, 1, False)) as envs:
        episode = next(play(envs, chooser, [environment_seed("test", 1000 + seed)]))
    steps = min(steps, len(episode.reward) - skip)
    if steps < 1 or skip < 1:
        raise UserError(
            f"video.skip={skip} and video.steps must be at least 1, and the episode has {len(episode.reward)} steps"
        )
    space = restore(environment["action"])
    for action in held:
        if not space.contains(np.array(action, episode.action.dtype)):
            raise UserError(f"video.held names {action}, which is no action of {environment['id']}: {space}")
    if any(one <= 0 for one in temperatures):
        raise UserError(f"video.temperatures={list(temperatures)} must be positive; 1 is M's own")
    run.begin(environment["id"], inputs, versions(), skip=skip, temperature=temperature)

    def dreamt(seen: Episode, temperature: float) -> np.ndarray:
        return models.vision.decode(dream_along(models, seen, skip, steps, temperature, seed)).cpu().numpy()

    real = episode.observation[skip : skip + steps + 1]
    reconstruction = models.vision.decode(models.vision.encode(torch.from_numpy(real)).mean).cpu().numpy()
    dream = dreamt(episode, temperature)
    rows = {"real": real, "reconstruction": reconstruction, f"dream, temperature {temperature:g}": dream}
    film = [beside([captioned(enlarge(frames[t], 4), name) for name, frames in rows.items()]) for t in range(steps + 1)]
    write_webm(run.folder / "dream.webm", film, fps)
    artefacts = {"video": run.folder / "dream.webm", "filmstrip": run.folder / "filmstrip.png"}
    names = {"dream": dream, "V's reconstruction": reconstruction, "the last frame that the dream saw": real[:1]}
    errors = {
        name: np.square((frames.astype(np.float32) - real) / 255).mean((1, 2, 3)) for name, frames in names.items()
    }
    strip = filmstrip(rows)
    write_png(artefacts["filmstrip"], np.concatenate([strip, error_strip(errors, strip.shape[1])]))
    if clip:
        artefacts["clip"] = run.folder / "clip.webp"
        write_webp(artefacts["clip"], film, fps)
    if held:
        kept = {f"dream under {action}": dreamt(under(episode, skip, action), temperature) for action in held}
        artefacts["actions"] = run.folder / "actions.png"
        write_png(artefacts["actions"], filmstrip(kept))
    if temperatures:
        wilder = {f"dream, temperature {one:g}": dreamt(episode, one) for one in temperatures}
        artefacts["temperatures"] = run.folder / "temperatures.png"
        write_png(artefacts["temperatures"], filmstrip({"real": real, **wilder}))
    error = errors["dream"]
    return StageResult(
        steps,
        "steps",
        f"dream's pixel error {error[1]:.4f} after a step, {error[-1]:.4f} after {steps}",
        artefacts,
        {"error_first": float(error[1]), "error_last": float(error[-1])},
    )


def filmstrip(rows: dict[str, np.ndarray]) -> np.ndarray:
    """Ten frames of each row's u8 [steps + 1, 64, 64, 3], spread evenly, its name above them."""
    last = len(next(iter(rows.values()))) - 1
    moments = np.linspace(0, last, 10).astype(int)
    return grid(
        [(f"{name}, every {(moments[1] - moments[0])} steps", list(frames[moments])) for name, frames in rows.items()]
    )


def under(episode: Episode, skip: int, action: Any) -> Episode:
    """The episode as it would be noted down had `action` been played at each step from `skip` on."""
    played = episode.action.copy()
    played[skip:] = action
    return episode._replace(action=played)


def dream_along(models: Models, episode: Episode, skip: int, steps: int, temperature: float, seed: int) -> torch.Tensor:
    """z f32 [steps + 1, Z] of a dream under the episode's actions, warmed up by its first `skip` steps."""
    action_space = models.environment["action"]
    posterior = models.vision.encode(torch.from_numpy(episode.observation[: skip + 1]))
    posterior = posterior.narrowed(models.memory.latent_noise)
    where = posterior.mean.device
    actions = torch.from_numpy(episode.action).to(where)
    context = {
        "mean": posterior.mean[:, None],
        "log_std": posterior.log_std[:, None],
        "action": as_features(actions[:skip, None], action_space),
        "first": (torch.arange(skip, device=where) == 0)[:, None],
    }
    world = DreamWorld(
        models.memory.network,
        contexts_from_plain(context, where),
        action_space,
        batch=1,
        horizon=steps + 1,
        temperature=temperature,
        terminates=False,
        seed=seed,
    )
    size = models.vision.latent_dim
    frames = [world.reset()[0, :size]]
    for t in range(skip, skip + steps):
        frames.append(world.step(actions[t : t + 1]).state[0, :size])
    return torch.stack(frames)
