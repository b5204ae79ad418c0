"""Networks of diffusers as denoisers: a bare one with a scheduler, a saved pipeline."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor, nn

from ...checked import checked
from ...checks import Device, check_device
from ...denoiser import Denoiser
from ...network import Shape, answer
from .read import Convention, read

#: Whose code a saved pipeline may be made of.
LIBRARIES = ("diffusers", "transformers", "flowsolve.integrations.diffusers")
#: What a pipeline has besides its network that says what the network is to be told.
CONDITIONS = ("text_encoder", "text_encoder_2", "image_encoder", "prior", "movq")


class Network(nn.Module):
    """A network of diffusers, called as a denoiser's: returns a tensor, of twice the channels the
    first half, with the sign its scheduler gives it."""

    def __init__(self, net: nn.Module, convention: Convention, labels: bool) -> None:
        super().__init__()
        self.net, self.convention, self.labels = net, convention, labels
        takes = inspect.signature(net.forward).parameters
        self.keyword = "timestep" if "timestep" in takes else None

    def forward(self, x: Tensor, time: Tensor, **conditioning: Any) -> Tensor:
        label = conditioning.get("class_labels")
        if self.labels and label is not None:
            label = torch.as_tensor(label, device=x.device)
            conditioning["class_labels"] = label.expand(len(x))
        told = {} if self.keyword is None else {self.keyword: time}
        out = self.net(x, *(() if told else (time,)), **told, **conditioning)
        return self.convention.said(answer(out, x), x.shape[1])


@checked
def wrap(
    net: nn.Module,
    scheduler: Any,
    *,
    shape: Shape | None = None,
    **conditioning: Any,
) -> Denoiser:
    """A bare network of diffusers, with the conventions that ``scheduler`` states::

        model = wrap(pipe.transformer, pipe.scheduler, class_labels=7)

    The scheduler's clipping or thresholding corrects x̂0. Of twice the channels, as of a learned
    variance, the first half counts.

    Args:
        net: called as ``net(x, timestep, **conditioning)``.
        scheduler: the one it was trained with, or is sampled with.
        shape: of one sample; by default (``in_channels``, ``sample_size``, ``sample_size``) of its
            configuration, if it has them.
        **conditioning: what else it is told; ``model.given(...)`` changes it. ``class_labels`` may
            be one for all samples.

    Returns:
        The network as a denoiser, on the scheduler's process.

    Raises:
        TypeError, ValueError: as :func:`read`.

    Examples:
        >>> from diffusers import DDIMScheduler, UNet2DModel
        >>> blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
        >>> net = UNet2DModel(8, 1, 1, block_out_channels=(32,), **blocks)
        >>> model = flowsolve.integrations.diffusers.wrap(net, DDIMScheduler())
        >>> model.shape, model.process.entries
        ((1, 8, 8), 1000)
    """
    convention: Convention = read(scheduler)
    network = Network(net, convention, "class_labels" in _takes(net))
    network.train(net.training)
    given = dict(conditioning)
    rows = [k for k, v in given.items() if isinstance(v, Tensor) and v.ndim > 0]
    return convention.denoiser(
        network,
        shape=_shape(net) if shape is None else shape,
        conditioning=given,
        per_sample=tuple(rows) if set(rows) == {"class_labels"} else None,
    )


def _takes(net: nn.Module) -> list[str]:
    return list(inspect.signature(net.forward).parameters)


def _shape(net: nn.Module) -> tuple[int, ...] | None:
    config: Any = getattr(net, "config", {})
    channels, size = config.get("in_channels"), config.get("sample_size")
    if not isinstance(channels, int) or size is None:
        return None
    return (channels, *((size, size) if isinstance(size, int) else size))


def loaded(
    source: Any, dtype: torch.dtype | None, device: Device | None, conditioning: dict[str, Any]
) -> Denoiser:
    """What :func:`flowsolve.load` returns."""
    pipe = source
    if isinstance(source, (str, os.PathLike)):
        pipe = saved_pipeline(source, dtype)
    elif not hasattr(source, "scheduler"):
        raise TypeError(
            f"source is a {type(source).__name__}; expected a folder, a name or a pipeline"
        )
    net = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    asks = [name for name in CONDITIONS if getattr(pipe, name, None) is not None]
    if net is None or asks:
        raise ValueError(
            f"source: {type(pipe).__name__} "
            + (
                f"has a {asks[0]}, which says what its network is told"
                if asks
                else "has no network"
            )
            + "; expected one without a prompt, or: with flowsolve.integrations.diffusers."
            'denoiser(pipe, prompt="...") as model'
        )
    if dtype is not None or device is not None:
        place = None if device is None else check_device(device)
        net = net.to(device=place, dtype=dtype)
    net = net.eval().requires_grad_(False)
    null = net.config.get("num_embeds_ada_norm")
    if null is not None and "class_labels" in _takes(net):
        conditioning.setdefault("class_labels", null)
    return wrap(net, pipe.scheduler, **conditioning)


def saved_pipeline(source: str | os.PathLike[str], dtype: torch.dtype | None = None) -> Any:
    """The pipeline of a folder or a name on the hub, whose weights are safetensors and whose code
    is diffusers' and transformers'."""
    place = Path(source)
    if place.exists():
        index = place / "model_index.json"
        if not index.is_file():
            raise FileNotFoundError(
                f"source={str(source)!r} has no model_index.json; expected a folder that a "
                "pipeline's save_pretrained wrote"
            )
        try:
            parts = json.loads(index.read_text(encoding="utf-8"))
            known = isinstance(parts["_class_name"], str)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"source={str(source)!r}: its model_index.json is damaged ({error!r}); expected "
                "what a pipeline's save_pretrained wrote"
            ) from None
        pairs = [v for k, v in parts.items() if k[:1] != "_" and isinstance(v, list)]
        others = {str(v[0]) for v in pairs if v and v[0] is not None} - {*LIBRARIES}
        if not known or others:
            whose = ", ".join(sorted(others)) or "a pipeline of its own"
            raise ValueError(
                f"source={str(source)!r} has code of its own ({whose}), which is not run; expected "
                f"parts of {', '.join(LIBRARIES)}. Load it yourself, and give the pipeline"
            )
    given = {} if dtype is None else {"torch_dtype": dtype}
    try:
        return DiffusionPipeline.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, **given
        )
    except (OSError, ValueError) as error:
        if place.exists():
            raise ValueError(
                f"source={str(source)!r}: {str(error).splitlines()[0]} (only safetensors are read; "
                "pickles can run code)"
            ) from error
        raise FileNotFoundError(
            f"source={str(source)!r} is no folder, and could not be had from the hub "
            f"({str(error).splitlines()[0]})"
        ) from error
