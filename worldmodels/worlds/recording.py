"""A stretch of GPU work as one CUDA graph: launched as a whole, with neither Python nor gaps between its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Recording:
    """`work` maps tensors to their successors and to results; it is recorded once and then replayed.

    The successors are what the next replay begins with. `work` must not look at the host; it draws from `generator`
    and from torch's own CUDA generator, which a replay moves on. Weights that it reads may be changed in place.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Tensor]], tuple[Sequence[Tensor], Sequence[Tensor]]],
        begin: Sequence[Tensor],
        generator: torch.Generator,
    ):
        self.held = [tensor.clone() for tensor in begin]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up at their first call, which must not be recorded
            work([tensor.clone() for tensor in begin])
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph):
            following, self.results = work(self.held)
            for held, tensor in zip(self.held, following, strict=True):
                held.copy_(tensor)

    def __call__(self, begin: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """From `begin` on: the successors and the results, as copies."""
        for held, tensor in zip(self.held, begin, strict=True):
            held.copy_(tensor)
        self.graph.replay()
        return [tensor.clone() for tensor in self.held], [tensor.clone() for tensor in self.results]
