"""What the papers' tables are measured by, and how a table is filled: cell by cell, each written as
it is found, so that a table can be made in parts.

The shipped digits have 64 pixels, for which no pretrained features exist. A small convolutional
network is trained here on the 1,500 training digits (seconds, always the same); its penultimate
layer gives the features of a second Fréchet distance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import flowsolve
from flowsolve.models.data import CLASSES, data
from flowsolve.models.quality import accuracy, frechet, nearest
from flowsolve.training.streams import drawing

RESULTS = Path(__file__).parent / "results"
#: Samples for each number, and the seeds it is measured with.
SAMPLES, SEEDS = 500, 3
#: So many of the data's principal directions are called empty: digits hardly ever have ink there.
EMPTY = 16


class Classifier(nn.Module):
    """Two convolutions and two layers, the first of which gives 32 features."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.features, self.last = nn.Linear(32 * 16, 32), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, 32) and scores (n, 10)."""
        features = F.relu(self.features(self.convolutions(x).flatten(1)))
        return features, self.last(features)


def trained(epochs: int, seed: int = 0) -> Classifier:
    """The classifier, trained with Adam in batches of 50, the learning rate falling to zero."""
    images, labels = data().train, data().train_labels
    with drawing(seed):
        net = Classifier()
    steps = epochs * (len(images) // 50)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for pick in torch.randperm(len(images), generator=generator).split(50):
            loss = F.cross_entropy(net(images[pick])[1], labels[pick])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval().requires_grad_(False)


class Judge(NamedTuple):
    """The classifier, all digits, their features, and the principal directions of their pixels,
    the emptiest first."""

    net: Classifier
    digits: Tensor
    features: Tensor
    directions: Tensor

    def row(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """The measures of images x (n, 1, 8, 8):

        * pixels, features: Fréchet distances to all digits;
        * accuracy: the share that a support vector machine takes for the digit asked for;
        * nearest: the median distance to the nearest training image;
        * variance: of all pixels together, over the data's;
        * residue: the root mean square of what they have in the data's empty directions.
        """
        x = x.float()
        apart = (x - self.digits.mean(0)).flatten(1).double() @ self.directions[:, :EMPTY]
        return {
            "pixels": frechet(x, self.digits),
            "features": frechet(self.net(x)[0], self.features),
            "accuracy": accuracy(x, labels),
            "nearest": nearest(x, data().train),
            "variance": spread(x) / spread(self.digits),
            "residue": float(apart.square().mean().sqrt()),
        }


def spread(x: Tensor) -> float:
    return float(x.double().flatten(1).var(0).sum())


@cache
def judge(epochs: int = 20) -> Judge:
    net, every = trained(epochs), torch.cat([data().train, data().held_out])
    _, directions = torch.linalg.eigh(every.double().flatten(1).T.cov())
    return Judge(net, every, net(every)[0], directions)


def yardstick(epochs: int = 20) -> dict[str, float]:
    """The measures of the held-out digits: their Fréchet distances are to the training digits."""
    found, split = judge(epochs), data()
    right = found.net(split.held_out)[1].argmax(1) == split.held_out_labels
    train = found._replace(digits=split.train, features=found.net(split.train)[0])
    row = train.row(split.held_out, split.held_out_labels)
    return {**row, "classifier": float(right.double().mean())}


class Table(NamedTuple):
    """Cells, named (row, ..., evaluations), and what draws the samples of one."""

    cells: Sequence[tuple[str, ...]]
    draw: Callable[[tuple[str, ...], Tensor, int], Tensor]
    few: Sequence[tuple[str, ...]]
    #: Seeds of a cell, where it is not as many as are asked for.
    seeds: Callable[[tuple[str, ...]], int] = lambda cell: SEEDS


def fill(
    table: Table,
    found: dict[str, Any],
    write: Callable[[dict[str, Any]], None],
    *,
    few: bool = False,
    seeds: int = SEEDS,
    most: int = 10**6,
) -> dict[str, Any]:
    """Fill a table: seed by seed, small budgets first. ``found`` has what is there already;
    ``most`` is the largest budget. Each cell has a list for each measure, a number a seed."""
    n, epochs = (20, 1) if few else (SAMPLES, 20)
    labels = torch.arange(n) % CLASSES
    found |= {"samples": n, "yardstick": rounded(yardstick(epochs))}
    cells = found.setdefault("cells", {})
    wanted = sorted(table.few if few else table.cells, key=lambda cell: int(cell[-1]))
    for seed in range(1 if few else seeds):
        for cell in wanted:
            row = cells.setdefault(", ".join(cell), {})
            done = len(row.get("pixels", ()))
            if done != seed or seed >= table.seeds(cell) or int(cell[-1]) > most:
                continue
            measures = judge(epochs).row(table.draw(cell, labels, seed), labels)
            for name, value in rounded(measures).items():
                row.setdefault(name, []).append(value)
            write(found)
    return found


def rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in row.items()}


def made(name: str) -> dict[str, str]:
    return {
        "command": f"python -m benchmarks.papers {name}",
        "flowsolve": flowsolve.__version__,
        "torch": torch.__version__,
        "device": "cpu, one thread",
    }


def known(name: str) -> dict[str, Any]:
    """What a table's file has, if these versions made it."""
    path, start = RESULTS / f"{name}.json", {"made": made(name)}
    if not path.exists():
        return start
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if found.get("made") == start["made"] else start


def written(name: str, found: dict[str, Any]) -> None:
    """Cells and pictures go on a line each."""
    lines = []
    for key, value in found.items():
        if isinstance(value, dict) and value and key != "made":
            inner = ",\n".join(f"  {json.dumps(str(k))}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    path = RESULTS / f"{name}.json"
    part = path.with_suffix(".part")
    part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    part.replace(path)
