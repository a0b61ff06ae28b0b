"""One player's worlds: the dream, and on request the real environment beside it under the same actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from ..envs.spaces import as_features
from ..memory import mixture
from ..memory.mdnrnn import MDNRNN
from ..types import MemoryState, Posterior, Window
from ..vision.vae import VAE, sample
from ..worlds.latent_world import join_state
from .keys import action_of, keys_of

FIRST = 1  # seed of the start that a page begins with


class View(NamedTuple):
    """What a page shows of a moment; frames u8 [64, 64, 3]."""

    dream: np.ndarray
    real: np.ndarray | None
    seen: np.ndarray | None  # what V makes of the real frame
    reward: float  # that M predicts
    end: float  # chance that the dream ends here, as M has it
    surprise: float | None  # −log p(real next z) per dimension, in nats
    real_reward: float | None
    step: int
    total: float  # predicted reward since the start
    ended: str  # why nothing moves any more, or ""
    real_ended: str  # why the real world does not, or ""
    z: list[float]


class Place(NamedTuple):
    """Where a world stands: z [1, Z], M's state [1, H], and whether no step has been taken."""

    z: Tensor
    memory: MemoryState
    first: Tensor


class Session:
    """The dream of M, seen through V, moved by keys or by a controller.

    contexts: windows of real latents that dreams start from, see `worlds.dream_world.contexts_from_plain`; act: C's,
    states to actions, with what it `sees`; make_real: the real environment, made when first asked for; action_names:
    of discrete actions, see `keys.keys_of`.
    """

    def __init__(
        self,
        vision: VAE,
        memory: MDNRNN,
        contexts: Window,
        action_space: dict[str, Any],
        act: Callable[[Tensor], Tensor] | None = None,
        sees: str = "z_h",
        make_real: Callable[[], gymnasium.Env] | None = None,
        action_names: Sequence[str] | None = None,
    ):
        self.vision, self.network, self.contexts, self.action_space = vision, memory, contexts, action_space
        self.keys = keys_of(action_space, action_names)
        with torch.no_grad():
            expected, _ = memory(contexts.observation.mean[:-1], contexts.action, contexts.first)
        self.starts = expected.reward.sum(0).argsort(descending=True).tolist()  # on the road at first
        self.act, self.sees, self.make_real = act, sees, make_real
        self.temperature, self.horizon = 1.0, 1000
        self.controller_drives = False
        self.at_real = False  # the real world is driven, the dream stands still
        self.real_ended = ""
        self.held: frozenset[str] = frozenset()
        self.sliders: dict[int, float] = {}
        self.env: gymnasium.Env | None = None
        self.generator = torch.Generator()
        self.reset(FIRST)

    # where things stand

    @torch.no_grad()
    def reset(self, seed: int) -> View:
        """Begin anew: the dream at the real start that the seed picks, the real environment with that seed."""
        self.seed = seed
        self.generator.manual_seed(seed)
        self.step_number, self.total, self.ended = 0, 0.0, ""
        self.reward = self.end = 0.0
        self.surprise: float | None = None
        self.real_reward: float | None = None
        self.sliders = {}
        pick = self.starts[seed % len(self.starts)]
        posterior: Posterior = self.contexts.observation
        z = sample(Posterior(posterior.mean[:, [pick]], posterior.log_std[:, [pick]]), self.generator)
        _, state = self.network(z[:-1], self.contexts.action[:, [pick]], self.contexts.first[:, [pick]])
        self.dream = Place(z[-1], state, torch.zeros(1, dtype=torch.bool))
        if self.env is not None:
            self._begin_real()
            self.dream = self.real  # side by side on the same road
        return self.view()

    def show_real(self, wanted: bool) -> View:
        """Open the real environment beside the dream, or close it."""
        if wanted and self.env is None and self.make_real is not None:
            self.env = self.make_real()
            self._begin_real()
            self.jump(to_real=False)  # both at the same place
        elif not wanted and self.env is not None:
            self.close()
        return self.view()

    def jump(self, to_real: bool) -> View:
        """Drive the real world, opened if it is not; or leave it: the dream then begins where the real world stands."""
        if to_real and self.env is None:
            self.show_real(True)
        if self.env is not None:
            self.at_real = to_real
            if not to_real:  # a dream may go on from where the real clock has stopped
                self.dream, self.sliders, self.ended = self.real, {}, ""
                self.step_number, self.total = 0, 0.0
        return self.view()

    def close(self) -> None:
        if self.env is not None:
            self.env.close()
        self.env, self.at_real = None, False
        self.surprise = self.real_reward = None

    # a step

    @torch.no_grad()
    def step(self) -> View:
        """All worlds that are shown, one step on; nothing where the one that is driven has ended."""
        if self.real_ended if self.at_real else self.ended:
            return self.view()
        action = self._action()
        self.step_number += 1
        if self.env is not None and not self.real_ended:
            self._step_real(action)
        else:  # nothing to compare with
            self.surprise = self.real_reward = None
        if not self.at_real and not self.ended:
            self._step_dream(action)
        return self.view()

    def _step_dream(self, action: Tensor) -> None:
        state = self._remember(self.dream, action)
        forecast = self.network.predict(state.h)
        z = mixture.sample(forecast.next_z, self.temperature, self.generator)
        self.reward, self.end = float(forecast.reward), float(torch.sigmoid(forecast.terminated_logit))
        self.total += self.reward
        self.dream = Place(self._with_sliders(z), state, torch.zeros(1, dtype=torch.bool))
        if float(torch.rand((), generator=self.generator)) < self.end:
            self.ended = "the dream has come to an end"
        elif self.step_number >= self.horizon:
            self.ended = "the horizon is reached"

    def _step_real(self, action: Tensor) -> None:
        assert self.env is not None, "asked for by step alone"
        state = self._remember(self.real, action)
        expected = self.network.predict(state.h)
        if self.at_real:
            self.reward, self.end = float(expected.reward), float(torch.sigmoid(expected.terminated_logit))
            self.total += self.reward
        chosen = action[0].cpu().numpy()
        frame, reward, terminated, truncated, _ = self.env.step(
            int(chosen) if self.action_space["type"] == "discrete" else chosen
        )
        self.frame, self.real_reward = np.asarray(frame), float(reward)
        z = self._encode(self.frame)
        self.surprise = -float(mixture.log_prob(expected.next_z, z).mean())
        self.real = Place(z, state, torch.zeros(1, dtype=torch.bool))
        if terminated or truncated:
            self.real_ended = "the real episode is over"

    def _begin_real(self) -> None:
        assert self.env is not None, "asked for where there is one alone"
        frame, _ = self.env.reset(seed=self.seed)
        self.frame, self.real_ended = np.asarray(frame), ""
        self.real = Place(self._encode(self.frame), self.network.initial_state(1), torch.ones(1, dtype=torch.bool))

    def _remember(self, place: Place, action: Tensor) -> MemoryState:
        return self.network.step(place.z, as_features(action, self.action_space), place.first, place.memory)

    def _encode(self, frame: np.ndarray) -> Tensor:
        return self.vision.encode(torch.from_numpy(np.ascontiguousarray(frame))[None]).mean

    def _with_sliders(self, z: Tensor) -> Tensor:
        for index, value in self.sliders.items():
            z[0, index] = value
        return z

    # who is at the wheel

    def set_latent(self, index: int, value: float | None) -> View:
        """Hold an entry of the dream's z at a value from here on; None lets go of it."""
        if value is None:
            self.sliders.pop(index, None)
        else:
            self.sliders[index] = value
            self.dream = self.dream._replace(z=self._with_sliders(self.dream.z.clone()))
        return self.view()

    def _action(self) -> Tensor:
        """[1, A] or [1]."""
        place = self.real if self.at_real else self.dream
        if self.controller_drives and self.act is not None:
            return self.act(join_state(place.z, place.memory, self.sees)).cpu()
        return torch.from_numpy(action_of(self.held, self.action_space, self.keys))[None]

    @torch.no_grad()
    def view(self) -> View:
        shows_real = self.env is not None
        return View(
            self.vision.decode(self.dream.z)[0].cpu().numpy(),
            self.frame if shows_real else None,
            self.vision.decode(self.real.z)[0].cpu().numpy() if shows_real else None,
            self.reward,
            self.end,
            self.surprise,
            self.real_reward,
            self.step_number,
            self.total,
            self.real_ended if self.at_real else self.ended,
            self.real_ended if shows_real else "",
            self.dream.z[0].tolist(),
        )
