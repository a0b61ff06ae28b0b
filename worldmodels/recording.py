"""A stretch of GPU work as one CUDA graph: launched as a whole, with neither Python nor gaps between its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class Recording:
    """`work` maps tensors to their successors and to results; it is recorded once and then replayed.

    The successors, if there are any, are what the next replay begins with. `work` must not look at the host; it draws
    from `generator` and from torch's own CUDA generator, which a replay moves on, and so does the one run of it that
    goes before the recording. What it reads besides `begin`, as weights, may be changed in place; what is bound anew,
    and what Python decided, stays as it was recorded.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Tensor]], tuple[Sequence[Tensor], Sequence[Tensor]]],
        begin: Sequence[Tensor],
        generator: torch.Generator | None = None,
    ):
        self.held = [tensor.clone() for tensor in begin]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up at their first call, which must not be recorded
            work([tensor.clone() for tensor in begin])
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        if generator is not None:
            self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # a thread that reads data may go on
            following, self.results = work(self.held)
            assert len(following) in (0, len(self.held)), "all have successors, or none"
            for held, tensor in zip(self.held, following):
                held.copy_(tensor)
        self.followed = len(following)

    def __call__(self, begin: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """From `begin` on: the successors and the results, as copies."""
        for held, tensor in zip(self.held, begin, strict=True):
            held.copy_(tensor)
        self.graph.replay()
        return [tensor.clone() for tensor in self.held[: self.followed]], [tensor.clone() for tensor in self.results]


class Recorded:
    """`work`, a function of tensors in tuples and dictionaries, by recordings: one for each set of shapes.

    They are kept, each with memory of its own. Structure and autocast must be the same at each call.
    """

    def __init__(self, work: Callable[[Any], Any]):
        self.work = work
        self.recordings: dict[Any, tuple[Recording, pytree.TreeSpec]] = {}

    def __call__(self, given: Any) -> Any:
        tensors, taken = pytree.tree_flatten(given)
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        if shapes not in self.recordings:
            found = []  # the structure of the results

            def stretch(held: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
                results, structure = pytree.tree_flatten(self.work(pytree.tree_unflatten(held, taken)))
                found.append(structure)
                return [], results

            recording = Recording(stretch, tensors)
            self.recordings[shapes] = recording, found[-1]
        recording, returned = self.recordings[shapes]
        return pytree.tree_unflatten(recording(tensors)[1], returned)
