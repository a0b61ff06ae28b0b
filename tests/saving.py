"""Modules as checkpoints, without training."""

import torch

from worldmodels import checkpoints


def saved(module, path, **facts):
    """The checkpoint at `path` of a V or M that was made from `facts`."""
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    checkpoints.stamp(content, module.kind, dict(module.hparams), facts)
    torch.save(content, path)
    return path
