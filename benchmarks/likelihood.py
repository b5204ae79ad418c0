"""Bits per dimension of the shipped model on held-out digits: ``python -m benchmarks.likelihood``.

Of all 297, spread evenly over bins of 1/8 around their values, with their labels and without;
beside them the variational bound of the same digits. Writes benchmarks/results/likelihood.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import flowsolve
from flowsolve.models import quality
from flowsolve.models.data import data
from flowsolve.noise import normal

RESULTS = Path(__file__).parent / "results" / "likelihood.json"


def bits(images: torch.Tensor, labels: torch.Tensor | None, **how: Any) -> dict[str, float]:
    """Mean, and the standard error of the mean over digits."""
    parts = [slice(i, i + 32) for i in range(0, len(images), 32)]
    found = torch.cat(
        [
            flowsolve.log_likelihood(
                flowsolve.digits(None if labels is None else labels[part]), images[part], **how
            ).bits(1 / 8)
            for part in parts
        ]
    )
    return {"bits": float(found.mean()), "error": float(found.std()) / len(found) ** 0.5}


def main() -> None:
    torch.set_num_threads(1)
    images, labels = data().held_out, data().held_out_labels
    z = normal(0, range(len(images)), 1, images.shape[1:], torch.float64, images.device)
    upward = images + torch.special.ndtr(z) / 8.0
    spread = upward - 1.0 / 16.0
    auto: dict[str, Any] = {"solver": "auto", "nfe": 40}
    result: dict[str, Any] = {
        "images": len(images),
        "with_labels": bits(spread, labels, **auto),
        "upward": bits(upward, labels, **auto),
        "without": bits(spread, None, **auto),
        "eight": {
            name: bits(spread[:8], labels[:8], **how)
            for name, how in {
                "auto 20": {"solver": "auto", "nfe": 20},
                "auto 40": auto,
                "auto 80": {"solver": "auto", "nfe": 80},
                "default": {},
            }.items()
        },
        "hutchinson": bits(spread[:8], labels[:8], divergence="hutchinson", seed=0, **auto),
        "bound": quality.bits_per_dimension(),
    }
    text = json.dumps(result, indent=1) + "\n"
    RESULTS.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
