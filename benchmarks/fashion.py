"""How good the shipped fashion model is, for its card.

    python -m benchmarks.fashion --data FOLDER --run runs/fashion

Writes benchmarks/results/fashion.json, from which FASHION.md has its figures. FOLDER has the four
idx files of Debian's package dataset-fashion-mnist; ``--run`` is the folder that
``flowsolve train --size 28`` left, for its losses. A small convolutional network is trained on the
60,000 training images (a few minutes): its penultimate layer gives the features of which Fréchet
distances are taken, and its last one says whether a sample is of the class that was asked.
The 10,000 other images are the yardstick: no network here has seen them. Nothing here is a time.
``--few`` takes few of everything, and writes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import flowsolve
from flowsolve.models.files import Images, read_images
from flowsolve.models.quality import frechet
from flowsolve.models.recipes import FASHION, WEIGHTS
from flowsolve.training.streams import drawing

RESULTS = Path(__file__).parent / "results" / "fashion.json"
#: (solver, nfe, by class).
RUNS = (
    ("auto", 20, True),
    ("ddim", 20, True),
    ("auto", 5, True),
    ("ddim", 5, True),
    ("auto", 20, False),
)


class Classifier(nn.Module):
    """Two convolutions and two layers, the first of which gives 64 features."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.features, self.last = nn.Linear(32 * 49, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, 64) and scores (n, 10)."""
        features = F.relu(self.features(self.convolutions(x).flatten(1)))
        return features, self.last(F.dropout(features, 0.3, self.training))


def trained(images: Images, epochs: int, seed: int = 0) -> Classifier:
    """The classifier, trained with Adam in batches of 128, the learning rate falling to zero."""
    with drawing(seed):
        net = Classifier()
    steps = epochs * (len(images.x) // 128)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    with torch.random.fork_rng():  # of which dropout draws
        torch.manual_seed(seed)
        for _, pick in zip(range(steps), batches(len(images.x), seed), strict=False):
            loss = F.cross_entropy(net(images.x[pick])[1], images.labels[pick])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval().requires_grad_(False)


def batches(n: int, seed: int) -> Iterator[Tensor]:
    """Batches of 128 of the numbers below n, each once in a round, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=generator)[: n // 128 * 128].split(128)


class Judge(NamedTuple):
    """The classifier, the training images, and what it sees in the held-out ones."""

    net: Classifier
    train: Images
    features: Tensor

    def row(self, x: Tensor, labels: Tensor | None, *, near: bool = True) -> dict[str, float]:
        """The figures of images x (n, 1, 28, 28)."""
        features, scores = seen(self.net, x)
        row = {"frechet": frechet(features, self.features)}
        if labels is not None:
            row["accuracy"] = float((scores.argmax(1) == labels).double().mean())
        if near:
            distances = nearest(x, self.train.x)
            row["nearest"] = float(distances.median())
            row["nearest_percent"] = float(distances.quantile(0.01))
        return row


def seen(net: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    features, scores = zip(*(net(part) for part in x.split(500)), strict=True)
    return torch.cat(features), torch.cat(scores)


def nearest(x: Tensor, among: Tensor) -> Tensor:
    """The Euclidean distance of each to the nearest, over the pixels."""
    rows = among.flatten(1)
    return torch.cat([torch.cdist(part, rows).min(1).values for part in x.flatten(1).split(100)])


def of_each(images: Images, n: int) -> Images:
    """The first n/10 of each class."""
    pick = torch.cat([(images.labels == k).nonzero()[: n // 10, 0] for k in range(10)])
    return Images(images.x[pick], images.labels[pick])


def measured(data: Path, run: Path, few: bool) -> dict[str, Any]:
    train, held = (
        read_images(next(data.glob(f"{name}-images*idx3-ubyte*"))) for name in ("train", "t10k")
    )
    n, epochs = (100, 1) if few else (2000, 8)
    if few:
        train, held = of_each(train, 2000), of_each(held, 500)
    net = trained(train, epochs)
    features, scores = seen(net, held.x)
    judge = Judge(net, train, features)
    real, others = of_each(train, n), of_each(held, n)
    held_row = judge.row(others.x, others.labels)
    held_row["accuracy"] = float((scores.argmax(1) == held.labels).double().mean())
    del held_row["frechet"]  # they are among those it would be taken to
    rows = {"held-out": held_row, "training": judge.row(real.x, real.labels, near=False)}
    labels = torch.arange(n) % 10
    for solver, nfe, by_class in RUNS:
        told = labels if by_class else None
        model = flowsolve.fashion(told)
        x = flowsolve.sample(model, solver=solver, nfe=nfe, n=n, seed=0, batch_size=100)
        rows[f"{solver}, nfe={nfe}, {'by' if by_class else 'no'} class"] = judge.row(x, told)
    content = WEIGHTS.with_name(FASHION.file).read_bytes()
    losses = torch.load(run / "checkpoint.pt", weights_only=True)["losses"]
    before, last = torch.tensor(losses, dtype=torch.float64).chunk(5)[3:]
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "samples": n,
        "steps": len(losses),
        "loss": {"fifth_before": float(before.mean()), "last_fifth": float(last.mean())},
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of the idx files")
    parser.add_argument("--run", type=Path, required=True, help="the folder of the training")
    parser.add_argument("--few", action="store_true", help="small, and nothing is written")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = json.dumps(measured(asked.data, asked.run, asked.few), indent=1) + "\n"
    if not asked.few:
        RESULTS.write_text(found)
    print(found, end="")


if __name__ == "__main__":
    main()
