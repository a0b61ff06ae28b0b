"""From the plain values of a config to environments."""

from __future__ import annotations

from typing import Any

import gymnasium

from ..envs.make import EnvSettings, make_env, make_envs
from ..envs.spaces import describe
from ..errors import UserError


def describe_environment(env: dict[str, Any]) -> dict[str, Any]:
    """What stores and checkpoints remember of an environment. Raises UserError for an unknown one."""
    settings = env_settings(env)
    probe = make_env(settings)
    try:
        return {
            **settings.describe(),
            "action": describe(probe.action_space),
            "observation_shape": list(probe.observation_space.shape or ()),
        }
    finally:
        probe.close()


def env_settings(env: dict[str, Any]) -> EnvSettings:
    """The settings within a config section or a checkpoint's description."""
    return EnvSettings(**{name: env[name] for name in EnvSettings._fields if name in env})


def with_kwargs(env: dict[str, Any], more: dict[str, Any] | None) -> dict[str, Any]:
    """The section or description with `more` arguments of the environment itself; UserError for no dictionary."""
    if not isinstance(more, dict | None):
        raise UserError(f"env_kwargs must be {{NAME: VALUE}} or null, not {more!r}")
    return {**env, "kwargs": {**env["kwargs"], **(more or {})}}


def open_envs(env: dict[str, Any], num_envs: int, asynchronous: bool) -> gymnasium.vector.VectorEnv:
    """The vector that a config section or a checkpoint's description asks for."""
    return make_envs(env_settings(env), num_envs, asynchronous)
