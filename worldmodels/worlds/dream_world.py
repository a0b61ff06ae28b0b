"""The dream: M alone, started from real latents with a warmed-up h."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..envs.spaces import as_features
from ..errors import UserError
from ..memory.fused import FusedMDNRNN
from ..memory.mdnrnn import MDNRNN
from ..types import MemoryState, Posterior, Step, Window
from .latent_world import join_state, state_dim


class DreamWorld:
    """B dreams of at most `horizon` steps.

    contexts: windows of real latents [W, N, …] that warm M up; a dream begins with z drawn at a context's last frame
    and with the h that its W steps have left. A dream ends where M says so (drawn with its probability) or at the
    horizon; the next one begins at once, from a start that was warmed up beforehand, without a look at the host.

    memory is copied as it is now, see `memory.fused`. temperature: τ, see `memory.mixture.sample`. terminates: False
    lets a dream go on to its horizon. compiles: see `memory.fused`.
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
        see_cell: bool = False,
        terminates: bool = True,
        seed: int = 0,
        compiles: bool = False,
    ):
        if horizon < 1 or batch < 1:
            raise UserError(f"a dream needs a horizon and a batch of at least 1, not {horizon} and {batch}")
        if temperature <= 0:
            raise UserError(f"the temperature must be positive, not {temperature}; 1 is M's own")
        self.memory, self.contexts, self.action_space = memory, contexts, action_space
        self.fused = FusedMDNRNN(memory, compiles)
        self.batch, self.horizon, self.temperature, self.see_cell = batch, horizon, temperature, see_cell
        self.terminates = terminates
        self.state_shape = (state_dim(memory, see_cell),)
        self.device = memory.heads.weight.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.steps = 0
        self.starts: tuple[Tensor, MemoryState]

    @torch.no_grad()
    def reset(self) -> Tensor:
        self.steps = 0
        self._warm_up()
        self.z, self.memory_state = self.starts
        self.age = torch.zeros(self.batch, dtype=torch.long, device=self.device)
        return self._state()

    @torch.no_grad()
    def step(self, action: Tensor) -> Step:
        features = as_features(action, self.action_space)
        uniform = torch.rand(self.batch, self.memory.latent_dim + 1, generator=self.generator, device=self.device)
        noise = torch.empty_like(self.z).normal_(generator=self.generator)
        self.z, self.memory_state, reward, ends = self.fused.advance(
            self.z, features, self.memory_state, uniform[:, 1:], noise, self.temperature
        )
        terminated = (uniform[:, 0] < ends) & self.terminates
        self.age = self.age + 1
        truncated = (self.age >= self.horizon) & ~terminated
        next_state = self._state()
        before = self.z
        self._begin_ended(terminated | truncated)
        state = next_state if self.z is before else self._state()
        return Step(state, next_state, reward, terminated, truncated)

    def _begin_ended(self, ended: Tensor) -> None:
        """Give ended dreams a new start; whether there are any is only asked where asking costs nothing."""
        self.steps += 1
        if self.steps % self.horizon == 0:  # most dreams end here together: fresh starts for them
            self._warm_up()
        if self.device.type == "cpu" and not ended.any():
            return
        z, (h, c) = self.starts
        column = ended[:, None]
        self.z = torch.where(column, z, self.z)
        self.memory_state = MemoryState(
            torch.where(column, h, self.memory_state.h), torch.where(column, c, self.memory_state.c)
        )
        self.age = torch.where(ended, 0, self.age)

    def _warm_up(self) -> None:
        """Draw B contexts and run M over them."""
        count = self.contexts.reward.shape[1]
        pick = torch.randint(count, (self.batch,), generator=self.generator, device=self.device)
        posterior: Posterior = self.contexts.observation
        mean, log_std = posterior.mean[:, pick], posterior.log_std[:, pick]
        z = mean + log_std.exp() * torch.empty_like(mean).normal_(generator=self.generator)
        _, state = self.memory(z[:-1], self.contexts.action[:, pick], self.contexts.first[:, pick])
        self.starts = (z[-1], state)

    def _state(self) -> Tensor:
        return join_state(self.z, self.memory_state, self.see_cell)


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
