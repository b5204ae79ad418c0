"""Saved models, ready to sample."""

from __future__ import annotations

from typing import Any

from ..checked import checked
from ..checks import Device
from ..denoiser import Denoiser
from ..network import Floating


@checked
def load(
    source: Any,
    *,
    dtype: Floating | None = None,
    device: Device | None = None,
    **conditioning: Any,
) -> Denoiser:
    """A saved pipeline of diffusers that takes no prompt, as a denoiser ready to sample::

        model = flowsolve.load("folder/with/model_index.json")
        x = flowsolve.sample(model, nfe=10, n=16, seed=0)

    Unconditional networks and those told a class: ``load(folder, class_labels=7)``, or
    ``model.given(class_labels=...)`` later; without one, DiT's has its null class. Where a pipeline
    has an autoencoder, the model is of its latents. Weights are read from safetensors alone, and no
    code that comes with them is run.

    Args:
        source: a folder that ``save_pretrained`` wrote, a name on the hub, or a pipeline.
        dtype: of the network's weights, by default as they are.
        device: where to put it.
        **conditioning: what the network is told.

    Returns:
        The pipeline's network on its process.

    Raises:
        FileNotFoundError: for a folder that is no pipeline's.
        ImportError: without diffusers.
        TypeError, ValueError: for one with code of its own, pickled weights, a prompt, or a
            scheduler without a process.

    Examples:
        >>> from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
        >>> blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
        >>> net = UNet2DModel(8, 1, 1, block_out_channels=(32,), **blocks)
        >>> model = flowsolve.load(DDPMPipeline(net, DDPMScheduler()))
        >>> flowsolve.sample(model, nfe=2, n=1, seed=0).shape
        torch.Size([1, 1, 8, 8])
    """
    from .diffusers.networks import loaded  # for those who have diffusers

    return loaded(source, dtype, device, conditioning)
