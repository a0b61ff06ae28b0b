"""The dream: M alone, started from real latents with a warmed-up h."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..envs.spaces import as_features
from ..errors import UserError
from ..memory.fused import FusedMDNRNN
from ..memory.mdnrnn import MDNRNN
from ..recording import Recording
from ..types import MemoryState, Posterior, Rollout, Step, Window
from .latent_world import join_state, state_dim


class Dream(NamedTuple):
    """B dreams at one moment."""

    z: Tensor  # f32 [B, Z]
    h: Tensor  # f32 [B, H]
    c: Tensor  # f32 [B, H]
    age: Tensor  # i64 [B], steps since it began
    rival_states: tuple[MemoryState, ...] = ()  # of other M's that follow some or all of them, see `rival_dreams`


class DreamWorld:
    """B dreams of at most `horizon` steps.

    contexts: windows of real latents [W, N, …] that warm M up; a dream begins with z drawn at a context's last frame
    and with the h that its W steps have left. A dream ends where M says so (drawn with its probability) or at the
    horizon; the next one begins at once, from a start that was warmed up beforehand, without a look at the host.

    memory is copied as it is now, see `memory.fused`. temperature: τ, see `memory.mixture.sample`. terminates: False
    lets a dream go on to its horizon. compiles: see `memory.fused`. On a GPU learners that play whole rollouts do so by
    CUDA graphs in place of that (`records`); others step through it as it is.
    """

    frames_per_step = 0  # a dream takes no step of the simulator

    def __init__(
        self,
        memory: MDNRNN,
        contexts: Window,
        action_space: dict[str, Any],
        batch: int,
        horizon: int,
        temperature: float = 1.0,
        sees: str = "z_h",
        terminates: bool = True,
        seed: int = 0,
        compiles: bool = False,
    ):
        if horizon < 1 or batch < 1:
            raise UserError(f"a dream needs a horizon and a batch of at least 1, not {horizon} and {batch}")
        if temperature <= 0:
            raise UserError(f"the temperature must be positive, not {temperature}; 1 is M's own")
        self.memory, self.contexts, self.action_space = memory, contexts, action_space
        if sees == "z4":
            raise UserError("a dream remembers by M alone; set controller.sees=z_h, z_h_c or z")
        self.batch, self.horizon, self.temperature, self.sees = batch, horizon, temperature, sees
        self.terminates = terminates
        self.state_shape = (state_dim(memory, sees),)
        self.device = memory.heads.weight.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.steps = 0
        self.records = compiles and self.device.type == "cuda"
        self.fused = FusedMDNRNN(memory, compiles and not self.records)
        self.recordings: dict[tuple[Any, int], Recording] = {}
        self.dream: Dream
        self.starts: Dream

    @torch.no_grad()
    def reset(self) -> Tensor:
        self.steps = 0
        self._warm_up()
        self.dream = self.starts
        return self._state(self.dream)

    @torch.no_grad()
    def step(self, action: Tensor) -> Step:
        self.steps += 1
        if self.steps % self.horizon == 0:  # most dreams end here together: fresh starts for them
            self._warm_up()
        self.dream, step = self._advance(self.dream, self.starts, action)
        return step

    @torch.no_grad()
    def rollout(self, act: Callable[[Tensor], Tensor], steps: int) -> Rollout:
        """`steps` steps by `act` (states to actions), recorded as one CUDA graph at the first call; see `records`.

        Dreams that end within it begin at starts that were warmed up before it.
        """
        self._warm_up()
        tensors, structure = pytree.tree_flatten((self.dream, self.starts))
        if (act, steps) not in self.recordings:
            work = partial(self._stretch, structure=structure, act=act, steps=steps)
            self.recordings[act, steps] = Recording(work, tensors, self.generator)
        held, results = self.recordings[act, steps](tensors)
        self.dream, _ = pytree.tree_unflatten(held, structure)
        return Rollout(*results)

    def _stretch(
        self, tensors: Sequence[Tensor], structure: pytree.TreeSpec, act: Callable[[Tensor], Tensor], steps: int
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """What `rollout` records. structure: that of (dream, starts), whose leaves `tensors` are."""
        dream, starts = pytree.tree_unflatten(tensors, structure)
        rows = []
        state = self._state(dream)
        for _ in range(steps):
            action = act(state)
            dream, step = self._advance(dream, starts, action)
            rows.append((state, action, step.next_state, step.reward, step.terminated, step.truncated))
            state = step.state
        return pytree.tree_leaves((dream, starts)), [torch.stack(column) for column in zip(*rows, strict=True)]

    def _advance(self, dream: Dream, starts: Dream, action: Tensor) -> tuple[Dream, Step]:
        """One step; dreams that end begin anew at their `starts`."""
        uniform = torch.rand(self.batch, self.memory.latent_dim + 1, generator=self.generator, device=self.device)
        noise = torch.empty_like(dream.z).normal_(generator=self.generator)
        features = as_features(action, self.action_space)
        following, reward, ends = self._dreamt(dream, features, uniform[:, 1:], noise)
        terminated = (uniform[:, 0] < ends) & self.terminates
        truncated = (following.age >= self.horizon) & ~terminated
        state = next_state = self._state(following)
        ended = terminated | truncated
        if self.device.type != "cpu" or ended.any():  # asking costs nothing on a CPU alone
            following = self._begun_anew(ended, starts, following)
            state = self._state(following)
        return following, Step(state, next_state, reward, terminated, truncated)

    def _begun_anew(self, ended: Tensor, starts: Dream, following: Dream) -> Dream:
        """`following`, and `starts` where `ended` [B]."""
        column = ended.unsqueeze(1)
        return following._replace(
            z=torch.where(column, starts.z, following.z),
            h=torch.where(column, starts.h, following.h),
            c=torch.where(column, starts.c, following.c),
            age=torch.where(ended, starts.age, following.age),
        )

    def _dreamt(self, dream: Dream, action: Tensor, uniform: Tensor, noise: Tensor) -> tuple[Dream, Tensor, Tensor]:
        """One step by M: dreams that go on, reward [B], the end's probability [B]; see `FusedMDNRNN.advance`."""
        state = MemoryState(dream.h, dream.c)
        z, (h, c), reward, ends = self.fused.advance(dream.z, action, state, uniform, noise, self.temperature)
        return dream._replace(z=z, h=h, c=c, age=dream.age + 1), reward, ends

    def _warm_up(self) -> None:
        """New starts behind B contexts, drawn anew."""
        count = self.contexts.reward.shape[1]
        pick = torch.randint(count, (self.batch,), generator=self.generator, device=self.device)
        posterior: Posterior = self.contexts.observation
        mean, log_std = posterior.mean[:, pick], posterior.log_std[:, pick]
        z = mean + log_std.exp() * torch.empty_like(mean).normal_(generator=self.generator)
        self.starts = self._begin(z, self.contexts.action[:, pick], self.contexts.first[:, pick])

    def _begin(self, z: Tensor, action: Tensor, first: Tensor) -> Dream:
        """Dreams that begin behind z [W + 1, B, Z], actions [W, B, A] and first bool [W, B]."""
        _, (h, c) = self.memory(z[:-1], action, first)
        return Dream(z[-1], h, c, torch.zeros(self.batch, dtype=torch.long, device=self.device))

    def _state(self, dream: Dream) -> Tensor:
        return join_state(dream.z, MemoryState(dream.h, dream.c), self.sees)


def contexts_as_plain(window: Window) -> dict[str, Tensor]:
    """Contexts for M's checkpoint, as a dictionary of tensors: windows without a padded step and without an end."""
    whole = window.valid.all(0) & ~window.terminated.any(0)
    posterior: Posterior = window.observation
    return {
        "mean": posterior.mean[:, whole].cpu(),
        "log_std": posterior.log_std[:, whole].cpu(),
        "action": window.action[:, whole].cpu(),
        "first": window.first[:, whole].cpu(),
    }


def contexts_from_plain(plain: dict[str, Tensor], device: torch.device | str = "cpu") -> Window:
    """The inverse of `contexts_as_plain`; rewards and ends, which no dream's start needs, are zero."""
    plain = {name: value.to(device) for name, value in plain.items()}
    nothing = torch.zeros(plain["action"].shape[:2], device=device)
    posterior = Posterior(plain["mean"], plain["log_std"])
    return Window(posterior, plain["action"], nothing, nothing.bool(), plain["first"], ~nothing.bool())
