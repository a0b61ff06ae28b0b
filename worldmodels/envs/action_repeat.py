"""One action for several frames, of which only the last is drawn."""

from __future__ import annotations

from typing import Any

import gymnasium


class ActionRepeat(gymnasium.Wrapper):
    """Repeat each action for some frames, add up their rewards, stop early at an end.

    Stock CarRacing spends 99 % of its time drawing inside `step`. Frames that nobody will see are not drawn: the
    physics, the rewards and the frame that is returned stay the stock ones.
    """

    def __init__(self, env: gymnasium.Env, repeat: int):
        if repeat < 1:
            raise ValueError(f"action_repeat must be at least 1, not {repeat}")
        super().__init__(env)
        self.repeat = repeat
        self._draws_in_step = repeat > 1 and hasattr(env.unwrapped, "_render_road")

    def step(self, action):
        total, frames = 0.0, 0
        for frame in range(self.repeat):
            self._draw(frame == self.repeat - 1)
            observation, reward, terminated, truncated, info = self.env.step(action)
            total, frames = total + float(reward), frames + 1
            if terminated or truncated:
                break
        if frames < self.repeat and self._draws_in_step:  # ended on a frame that was not drawn
            self._draw(True)
            observation = self.unwrapped._render("state_pixels")  # pyright: ignore[reportAttributeAccessIssue]
        return observation, total, terminated, truncated, {**info, "frames": frames}  # pyright: ignore[reportPossiblyUnboundVariable]

    def _draw(self, draw: bool) -> None:
        if not self._draws_in_step:
            return
        unwrapped: Any = self.unwrapped
        if draw:
            unwrapped.__dict__.pop("_render", None)
        else:
            unwrapped._render = lambda mode: unwrapped.state
