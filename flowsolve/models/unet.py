"""A small class-conditional U-Net for images of 8×8, and in patches for larger ones, told the time
and, if there is one, the class."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checked import Must, checked


class Residual(nn.Module):
    """Two convolutions around a skip; the embedding scales and shifts between them (arXiv
    2105.05233, AdaGN)."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(
            self.conv2.weight
        )  # each block starts as its skip, which lets the first steps be large

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))


class Attention(nn.Module):
    """Self-attention over the pixels, one head, with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return x + self.out(h.reshape(x.shape))


Size = Annotated[int, Must(lambda v: 1 <= v <= 2**16, "a positive integer, at most 2**16")]
Side = Annotated[int, Must(lambda v: 1 <= v <= 64, "a positive integer, at most 64")]
Eights = Annotated[
    int, Must(lambda v: 8 <= v <= 2**16 and v % 8 == 0, "a positive multiple of 8, at most 2**16")
]
Classes = Annotated[int, Must(lambda v: 0 <= v <= 2**24, "an integer from 0 to 2**24")]


@checked
class UNet(nn.Module):
    """Two resolutions, ``base`` and 2 ``base`` channels, attention at the lower one; 133k
    parameters by default.

    Args:
        channels: of what comes in, whose sides must be multiples of 2 ``patch``.
        base: channels at full resolution, a multiple of 8.
        classes: number of classes, 0 for a network without; class number ``classes`` is the null
            class.
        outputs: channels of what goes out, ``channels`` by default.
        patch: the side of the squares of pixels that are one position to the network, each pixel a
            channel of it.

    Called as ``net(x, time, label=None)``: x (batch, channels, height, width), time (batch,) in [0,
    1], label None (the null class), an integer, or an integer tensor of shape () or (batch,).
    Returns (batch, outputs, height, width).

    Examples:
        >>> from flowsolve.models import unet
        >>> net = unet.UNet(base=8, classes=10)
        >>> net(torch.zeros(2, 1, 8, 8), torch.ones(2), label=torch.tensor([3, 10])).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        channels: Size = 1,
        base: Eights = 16,
        classes: Classes = 10,
        outputs: Size | None = None,
        patch: Side = 1,
    ) -> None:
        super().__init__()
        width, pixels = 4 * base, patch**2
        self.base, self.classes, self.patch = base, classes, patch
        self.embed = nn.Sequential(nn.Linear(2 * base, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width)
        self.first = nn.Conv2d(channels * pixels, base, 3, padding=1)
        self.fine = nn.ModuleList(Residual(base, base, width) for _ in range(2))
        self.down = nn.Conv2d(base, 2 * base, 3, stride=2, padding=1)
        self.coarse = Residual(2 * base, 2 * base, width)
        self.middle1, self.attention = Residual(2 * base, 2 * base, width), Attention(2 * base)
        self.middle2 = Residual(4 * base, 2 * base, width)
        self.up = nn.Conv2d(2 * base, base, 3, padding=1)
        self.last = nn.ModuleList(
            (Residual(2 * base, base, width), Residual(2 * base, base, width))
        )
        self.norm, self.out = (
            nn.GroupNorm(8, base),
            nn.Conv2d(base, (outputs or channels) * pixels, 3, padding=1),
        )
        nn.init.zeros_(self.out.weight)

    def _labels(self, label: Tensor | int | None, x: Tensor) -> Tensor:
        if label is None:
            label = self.classes
        if not isinstance(label, Tensor):
            if isinstance(label, bool) or not isinstance(label, int):
                raise TypeError(
                    f"label={label!r}: expected None, an integer or "
                    f"an integer tensor of shape ({len(x)},)"
                )
            if not 0 <= label <= self.classes:
                raise ValueError(
                    f"label={label}: expected 0 <= label < {self.classes}, "
                    f"or {self.classes} or None for no class"
                )
            return torch.full((len(x),), label, device=x.device)
        if label.is_floating_point() or label.shape not in ((), (len(x),)):
            raise ValueError(
                f"label is a tensor of {label.dtype}, shape {tuple(label.shape)}; "
                f"expected integers, shape ({len(x)},), one for each sample"
            )
        return label.to(x.device).expand(len(x))

    def forward(self, x: Tensor, time: Tensor, label: Tensor | int | None = None) -> Tensor:
        # The fastest feature turns eight times over [0, 1]: faster ones would make the output rough
        # in t, slow to integrate. They are in the time's dtype, not the network's: half precision
        # would merge neighbouring levels.
        frequencies = torch.logspace(
            0.0, math.log10(16 * math.pi), self.base, dtype=time.dtype, device=time.device
        )
        angles = time[:, None] * frequencies
        features = torch.cat([angles.sin(), angles.cos()], dim=1).to(x.dtype)
        embedding = F.silu(self.embed(features) + self.label(self._labels(label, x)))
        h = self.first(F.pixel_unshuffle(x, self.patch))
        skips = []
        for block in self.fine:
            h = block(h, embedding)
            skips.append(h)
        low = self.coarse(self.down(h), embedding)
        h = self.attention(self.middle1(low, embedding))
        h = self.middle2(torch.cat([h, low], dim=1), embedding)
        h = self.up(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        for block in self.last:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), self.patch)
