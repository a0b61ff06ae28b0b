"""Batches drawn from a Replay, as Lightning wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, IterableDataset

Draw = Callable[[torch.Generator], Any]


class Draws(IterableDataset):
    """`count` batches, each one call of `draw`. A repeating one draws the same batches every time."""

    def __init__(self, draw: Draw, count: int, seed: int, device: torch.device, repeat: bool):
        self.draw, self.count, self.seed, self.repeat = draw, count, seed, repeat
        self.generator = torch.Generator(device).manual_seed(seed)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        if self.repeat:
            self.generator.manual_seed(self.seed)
        for _ in range(self.count):
            yield self.draw(self.generator)


class ReplayData(lightning.LightningDataModule):
    """Training batches drawn anew, validation batches the same at each visit.

    An epoch is `batches_per_epoch` draws: validation and checkpoints follow each.
    """

    def __init__(
        self,
        train: Draw,
        validation: Draw,
        batches_per_epoch: int,
        validation_batches: int,
        seed: int,
        device: torch.device,
    ):
        super().__init__()
        self.train = Draws(train, batches_per_epoch, seed, device, repeat=False)
        self.validation = Draws(validation, validation_batches, seed, device, repeat=True)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=None, collate_fn=_same)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.validation, batch_size=None, collate_fn=_same)


def _same(batch: Any) -> Any:
    return batch
