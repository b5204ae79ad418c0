"""Pipelines of diffusers with tiny random networks, a family each, built as diffusers' own are;
embeddings stand for text encoders.

``FAMILIES[name]()`` gives (pipeline, arguments of its call); results are latents.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Made = tuple[Any, dict[str, Any]]


def _modules() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers

        for name in PIPELINES:  # each is imported when it is first named
            getattr(diffusers, name)
    return diffusers


PIPELINES = (
    "StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline",
    "FluxPipeline", "PixArtSigmaPipeline", "SanaPipeline", "DiTPipeline", "DDPMPipeline",
    "WanPipeline", "LTXPipeline", "StableAudioPipeline",
)  # fmt: skip


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@lru_cache(1)
def d() -> Any:
    return _modules()


def made(cls: Any, **options: Any) -> Any:
    """A network with random weights, some of which diffusers begins at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = cls(**options).eval().requires_grad_(False)
        for p in net.parameters():
            if not p.any():
                p.normal_(std=0.05)
    return net


def vae(channels: int = 4) -> Any:
    return made(
        d().AutoencoderKL,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
    )


def unet2d(**options: Any) -> Any:
    base: dict[str, Any] = dict(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    return made(d().UNet2DModel, **{**base, **options})


def _unet(**options: Any) -> Any:
    base: dict[str, Any] = dict(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    return made(d().UNet2DConditionModel, **{**base, **options})


SD_TABLE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


@lru_cache(1)
def sd() -> Made:
    pipe = d().StableDiffusionPipeline(
        vae=vae(),
        text_encoder=None,
        tokenizer=None,
        unet=_unet(),
        scheduler=d().DDIMScheduler(
            **SD_TABLE, clip_sample=False, set_alpha_to_one=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    call = dict(
        prompt_embeds=random(2, 7, 16),
        negative_prompt_embeds=random(2, 7, 16, seed=2),
        guidance_scale=5.0,
        height=16,
        width=16,
    )
    return pipe, call


def sd_v() -> Made:
    pipe, call = sd()
    scheduler = d().DDIMScheduler(
        **SD_TABLE,
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    return _with(pipe, scheduler), call | {"guidance_rescale": 0.7}


def sd_inpaint() -> Made:
    """With the image and the mask the call wants."""
    pipe, call = sd()
    return _as(d().StableDiffusionInpaintPipeline, pipe), call | dict(
        image=random(2, 3, 16, 16).clamp(-1, 1),
        mask_image=(random(2, 1, 16, 16, seed=5) > 0).float(),
    )


def sd_img2img() -> Made:
    pipe, call = sd()
    call = {k: v for k, v in call.items() if k not in ("height", "width")}
    return _as(d().StableDiffusionImg2ImgPipeline, pipe), call | dict(
        image=random(2, 3, 16, 16).clamp(-1, 1)
    )


@lru_cache(1)
def sdxl() -> Made:
    pipe = d().StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=_unet(
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            transformer_layers_per_block=(1, 1),
            projection_class_embeddings_input_dim=6 * 4 + 16,
        ),
        scheduler=d().EulerDiscreteScheduler(
            **SD_TABLE, timestep_spacing="leading", steps_offset=1
        ),
        add_watermarker=False,
    )
    call = dict(
        prompt_embeds=random(2, 7, 16),
        negative_prompt_embeds=random(2, 7, 16, seed=2),
        pooled_prompt_embeds=random(2, 16, seed=3),
        negative_pooled_prompt_embeds=random(2, 16, seed=4),
        guidance_scale=5.0,
        height=16,
        width=16,
    )
    return pipe, call


def sdxl_edm() -> Made:
    pipe, call = sdxl()
    return _with(pipe, d().EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0)), call


@lru_cache(1)
def sd3() -> Made:
    net = made(
        d().SD3Transformer2DModel,
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        out_channels=4,
    )
    pipe = d().StableDiffusion3Pipeline(
        transformer=net,
        scheduler=d().FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    call = dict(
        prompt_embeds=random(2, 7, 16),
        negative_prompt_embeds=random(2, 7, 16, seed=2),
        pooled_prompt_embeds=random(2, 16, seed=3),
        negative_pooled_prompt_embeds=random(2, 16, seed=4),
        guidance_scale=4.0,
        height=16,
        width=16,
    )
    return pipe, call


@lru_cache(1)
def flux() -> Made:
    net = made(
        d().FluxTransformer2DModel,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    pipe = d().FluxPipeline(
        scheduler=d().FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(1),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=net,
    )
    call = dict(
        prompt_embeds=random(2, 7, 16),
        pooled_prompt_embeds=random(2, 16, seed=3),
        guidance_scale=3.5,
        height=16,
        width=16,
    )
    return pipe, call


@lru_cache(1)
def pixart() -> Made:
    net = made(
        d().PixArtTransformer2DModel,
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=16,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        use_additional_conditions=False,
    )
    pipe = d().PixArtSigmaPipeline(
        transformer=net,
        vae=vae(),
        scheduler=d().DPMSolverMultistepScheduler(**SD_TABLE),
        text_encoder=None,
        tokenizer=None,
    )
    mask = torch.ones(2, 7)
    call = dict(
        prompt_embeds=random(2, 7, 16),
        prompt_attention_mask=mask,
        negative_prompt_embeds=random(2, 7, 16, seed=2),
        negative_prompt_attention_mask=mask,
        negative_prompt=None,
        height=16,
        width=16,
        use_resolution_binning=False,
    )
    return pipe, call


@lru_cache(1)
def sana() -> Made:
    net = made(
        d().SanaTransformer2DModel,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=8,
    )
    codec = made(
        d().AutoencoderDC,
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    pipe = d().SanaPipeline(
        transformer=net,
        vae=codec,
        scheduler=d().DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
        ),
        text_encoder=None,
        tokenizer=None,
    )
    mask = torch.ones(2, 7)
    call = dict(
        prompt_embeds=random(2, 7, 16),
        prompt_attention_mask=mask,
        negative_prompt_embeds=random(2, 7, 16, seed=2),
        negative_prompt_attention_mask=mask,
        height=32,
        width=32,
        use_resolution_binning=False,
        negative_prompt=None,
        complex_human_instruction=None,
    )
    return pipe, call


@lru_cache(1)
def dit() -> Made:
    net = made(
        d().DiTTransformer2DModel,
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    pipe = d().DiTPipeline(
        transformer=net, vae=vae(), scheduler=d().DDIMScheduler(clip_sample=False)
    )
    return pipe, dict(class_labels=[3, 7], guidance_scale=4.0)


@lru_cache(1)
def ddpm() -> Made:
    pipe = d().DDPMPipeline(unet2d(), d().DDPMScheduler(clip_sample=False))
    return pipe, dict(batch_size=2)


@lru_cache(1)
def wan() -> Made:
    net = made(
        d().WanTransformer3DModel,
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    codec = made(
        d().AutoencoderKLWan,
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    pipe = d().WanPipeline(
        transformer=net,
        vae=codec,
        scheduler=d().UniPCMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
        ),
        text_encoder=None,
        tokenizer=None,
    )
    call = dict(
        prompt_embeds=random(2, 7, 16),
        negative_prompt_embeds=random(2, 7, 16, seed=2),
        guidance_scale=4.0,
        height=16,
        width=16,
        num_frames=5,
    )
    return pipe, call


@lru_cache(1)
def ltx() -> Made:
    net = made(
        d().LTXVideoTransformer3DModel,
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=16,
    )
    codec = made(
        d().AutoencoderKLLTXVideo,
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    pipe = d().LTXPipeline(
        transformer=net,
        vae=codec,
        scheduler=d().FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, shift_terminal=0.1
        ),
        text_encoder=None,
        tokenizer=None,
    )
    mask = torch.ones(2, 7)
    call = dict(
        prompt_embeds=random(2, 7, 16),
        prompt_attention_mask=mask,
        negative_prompt_embeds=random(2, 7, 16, seed=2),
        negative_prompt_attention_mask=mask,
        guidance_scale=3.0,
        height=32,
        width=32,
        num_frames=9,
    )
    return pipe, call


@lru_cache(1)
def audio() -> Made:
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel

    net = made(
        d().StableAudioDiTModel,
        sample_size=4,
        in_channels=3,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        out_channels=3,
        cross_attention_dim=4,
        time_proj_dim=8,
        global_states_input_dim=8,
        cross_attention_input_dim=4,
    )
    codec = made(
        d().AutoencoderOobleck,
        encoder_hidden_size=6,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=3,
        audio_channels=2,
        channel_multiples=[2, 4],
        sampling_rate=4,
    )
    pipe = d().StableAudioPipeline(
        vae=codec,
        text_encoder=_Elsewhere(),
        projection_model=made(
            StableAudioProjectionModel,
            text_encoder_dim=4,
            conditioning_dim=4,
            min_value=0,
            max_value=32,
        ),
        tokenizer=None,
        transformer=net,
        scheduler=d().CosineDPMSolverMultistepScheduler(
            solver_order=2,
            prediction_type="v_prediction",
            sigma_data=1.0,
            sigma_schedule="exponential",
            sigma_min=0.3,
            sigma_max=500,
        ),
    )
    mask = torch.ones(2, 7, dtype=torch.long)
    call = dict(
        prompt_embeds=random(2, 7, 4),
        negative_prompt_embeds=random(2, 7, 4, seed=2),
        attention_mask=mask,
        negative_attention_mask=mask,
        guidance_scale=3.0,
        audio_end_in_s=0.5,
    )
    return pipe, call


class _Elsewhere(torch.nn.Module):
    """In the place of a text encoder whose embeddings are given."""

    dtype, device = torch.float32, torch.device("cpu")


def network(pipe: Any) -> Any:
    """The network of a pipeline."""
    return getattr(pipe, "unet", None) or pipe.transformer


def sd_with_words(folder: Path) -> Any:
    """Stable Diffusion with a text encoder of its own, and a tokenizer that knows the letters."""
    import json

    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.model_max_length = 16
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = CLIPTextModel(config).eval()
    pipe, _ = sd()
    parts = {**pipe.components, "text_encoder": encoder, "tokenizer": tokenizer}
    return type(pipe)(**parts, requires_safety_checker=False)


def _with(pipe: Any, scheduler: Any) -> Any:
    """The same pipeline with another scheduler."""
    return type(pipe)(**{**pipe.components, "scheduler": scheduler, **_extra(pipe)})


def _extra(pipe: Any) -> dict[str, Any]:
    if "StableDiffusionXL" in type(pipe).__name__:
        return {"add_watermarker": False}
    return {"requires_safety_checker": False} if "safety_checker" in pipe.components else {}


def _as(cls: Any, pipe: Any) -> Any:
    parts = {k: v for k, v in pipe.components.items() if k != "image_encoder"}
    return cls(**parts, **_extra(pipe))


FAMILIES: dict[str, Callable[[], Made]] = {
    each.__name__: each
    for each in (
        sd, sd_v, sdxl, sdxl_edm, sd3, flux, pixart, sana, dit, ddpm, wan, ltx, audio
    )
}  # fmt: skip
