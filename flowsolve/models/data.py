"""The digits: scikit-learn's copy of the data."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import require

SHAPE = (1, 8, 8)
CLASSES = 10
#: Values are −1 + k/8, k = 0 … 16.
BINS = 17
HELD_OUT = 297


class Split(NamedTuple):
    """Images (n, 1, 8, 8) in [−1, 1], float32, and their labels (n,), for training and held out.

    Examples:
        >>> from flowsolve.models import data
        >>> data.data().train_labels.unique().tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    train: Tensor
    train_labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor


@lru_cache
@torch.inference_mode(False)  # whoever asks first: the data are everybody's
def data() -> Split:
    """scikit-learn's copy of the UCI optical digits, 1,500 for training and 297 held out, the same
    split every time.

    Returns:
        The two parts, and their labels.

    Raises:
        ImportError: without scikit-learn.

    Examples:
        >>> from flowsolve.models import data
        >>> split = data.data()
        >>> split.train.shape, split.held_out.shape
        (torch.Size([1500, 1, 8, 8]), torch.Size([297, 1, 8, 8]))
    """
    bunch = require("sklearn.datasets", "train", "a shipped model").load_digits()
    images = torch.from_numpy(bunch.images).to(torch.float32).reshape(-1, *SHAPE) / 8.0 - 1.0
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    # RandomState, because NumPy promises that its stream never changes.
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(images)))
    train, held = order[:-HELD_OUT], order[-HELD_OUT:]
    return Split(images[train], labels[train], images[held], labels[held])
