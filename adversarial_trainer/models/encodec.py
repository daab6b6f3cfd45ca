"""The codec: encoder, quantizer and decoder behind AudioCraft 1.3's `EncodecModel` interface, and
the exchange of weights with the encodec package and AudioCraft."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from adversarial_trainer.modules.data_init import data_dependent_init, scale_parameter
from adversarial_trainer.modules.norm import convert_old_keys, export_old_style_keys
from adversarial_trainer.quantization.base import BaseQuantizer, QuantizedResult
from adversarial_trainer.registry import register


@register("model", "encodec")
class EncodecModel(nn.Module):
    """EnCodec (Défossez et al. 2022, arXiv 2210.13438) on raw waveforms.

    Codebooks learn in `quantizer.update(result)`, to be called after the optimizer's step.

    Args:
        encoder: [B, channels, T] -> [B, D, F], F = ceil(T / hop_length).
        decoder: [B, D', F] -> [B, channels, F * hop_length].
        quantizer: of the latent frames, [B, D, F] -> [B, D', F]; mostly D' = D.
        frame_rate: latent frames a second, sample_rate / hop_length; not always whole
            (44100 / 320 = 137.8125).
        sample_rate: in Hz.
        channels: audio channels.
        causal: whether encoder and decoder are causal (for information, and to refuse
            `renormalize`).
        renormalize: divide each item by its volume before encoding and multiply after decoding.
            The volume is of the whole item, so it needs causal=False.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        quantizer: BaseQuantizer,
        frame_rate: float,
        sample_rate: int,
        channels: int,
        causal: bool = False,
        renormalize: bool = False,
    ) -> None:
        super().__init__()
        if causal and renormalize:
            raise ValueError(
                "renormalize=True needs causal=False: an item's volume is only known at its end"
            )
        parts = {"encoder": encoder, "decoder": decoder, "quantizer": quantizer}
        _check_equal("channels", parts, {"model": channels})
        _check_equal("dimension", {"encoder": encoder, "quantizer": quantizer})
        _check_equal("dimension", {"decoder": decoder}, {"quantizer": quantizer.output_dimension})
        hop_length = _check_equal("hop_length", parts)
        if hop_length and not math.isclose(frame_rate, sample_rate / hop_length, rel_tol=1e-6):
            raise ValueError(
                f"frame_rate must be sample_rate / hop_length = {sample_rate} / {hop_length} = "
                f"{sample_rate / hop_length:.10g} (not rounded), got {frame_rate}"
            )
        self.encoder = encoder
        self.decoder = decoder
        self.quantizer = quantizer
        self.frame_rate = float(frame_rate)
        self.sample_rate = sample_rate
        self.channels = channels
        self.causal = causal
        self.renormalize = renormalize

    @property
    def hop_length(self) -> int:
        """Samples of a latent frame."""
        return round(self.sample_rate / self.frame_rate)

    @property
    def total_codebooks(self) -> int:
        """Number of codebooks that the quantizer has."""
        return self.quantizer.total_codebooks

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks in use."""
        return self.quantizer.num_codebooks

    def set_num_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks, in [1, total_codebooks]."""
        self.quantizer.set_num_codebooks(n)

    @property
    def cardinality(self) -> int:
        """Entries of a codebook."""
        return self.quantizer.cardinality

    def bandwidth_of(self, num_codebooks: int) -> float:
        """kb/s of `num_codebooks` codebooks: n log2(cardinality) frame_rate / 1000."""
        return self.quantizer.bandwidth(self.frame_rate, num_codebooks)

    @property
    def bandwidth(self) -> float:
        """kb/s of the codebooks in use."""
        return self.bandwidth_of(self.num_codebooks)

    @property
    def bandwidths(self) -> list[float]:
        """kb/s for 1, 2, ..., total_codebooks codebooks."""
        return [self.bandwidth_of(n) for n in range(1, self.total_codebooks + 1)]

    def codebooks_of(self, bandwidth: float) -> int:
        """How many codebooks give `bandwidth` kb/s, one of `bandwidths` up to a rounding of
        0.5 %."""
        n = min(
            range(1, self.total_codebooks + 1), key=lambda n: abs(self.bandwidth_of(n) - bandwidth)
        )
        if not math.isclose(self.bandwidth_of(n), bandwidth, rel_tol=5e-3):
            choices = ", ".join(f"{value:.4g}" for value in self.bandwidths)
            raise ValueError(f"This model has no bandwidth of {bandwidth} kb/s. Choices: {choices}")
        return n

    def set_target_bandwidth(self, bandwidth: float) -> None:
        """Use as many codebooks as give `bandwidth` kb/s; see `codebooks_of`."""
        self.set_num_codebooks(self.codebooks_of(bandwidth))

    def preprocess(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Divide `x` [B, C, T] by the items' volume if `renormalize`.

        The volume is that of the encodec package: the rms of the mean over channels, plus 1e-8.

        Returns:
            The audio and the volumes [B, 1], or None without `renormalize`.
        """
        if not self.renormalize:
            return x, None
        mono = x.mean(dim=1, keepdim=True)
        volume = mono.pow(2).mean(dim=2, keepdim=True).sqrt() + 1e-8  # [B, 1, 1]
        return x / volume, volume.view(-1, 1)

    def postprocess(self, x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """Undo `preprocess`: multiply `x` [B, C, T] by `scale` [B, 1]."""
        if scale is None:
            return x
        if not self.renormalize:
            raise ValueError("scale given to a model with renormalize=False; give scale=None")
        if scale.numel() != x.shape[0]:
            raise ValueError(f"scale must have shape [{x.shape[0]}, 1], got {list(scale.shape)}")
        return x * scale.view(-1, 1, 1)

    def forward(self, x: torch.Tensor) -> QuantizedResult:
        """Reconstruct `x` [B, C, T]. The result's `x` has the shape and type of the input, its
        other fields are the quantizer's."""
        self._check_audio(x)
        audio, scale = self.preprocess(x)
        result = self.quantizer(self.encoder(audio), self.frame_rate)
        out = self.decoder(result.x)
        # Encoder and decoder work on whole hops; under autocast the result may be half precision.
        result.x = self.postprocess(out[..., : x.shape[-1]].to(x.dtype), scale)
        return result

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Codes of `x` [B, C, T].

        Returns:
            Codes [B, num_codebooks, F], integers in [0, cardinality), F = ceil(T / hop_length);
            scale [B, 1], or None without `renormalize`.
        """
        self._check_audio(x)
        audio, scale = self.preprocess(x)
        return self.quantizer.encode(self.encoder(audio)), scale

    def decode(self, codes: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        """Audio [B, C, F * hop_length] of what `encode` returned. The padding to a whole hop is
        included: cut it to the original length."""
        return self.postprocess(self.decoder(self.decode_latent(codes)), scale)

    def decode_latent(self, codes: torch.Tensor) -> torch.Tensor:
        """Latent frames [B, D, F] of codes [B, K, F], K <= total_codebooks."""
        return self.quantizer.decode(codes)

    def _check_audio(self, x: torch.Tensor) -> None:
        valid = x.dim() == 3 and x.shape[1] == self.channels and x.shape[2] > 0
        if not valid or not x.is_floating_point():
            raise ValueError(
                f"audio must be floats of shape [B, C, T], with C={self.channels} channels in "
                f"this model and T >= 1; got {x.dtype} {list(x.shape)}"
            )


def _check_equal(
    name: str, parts: Mapping[str, nn.Module], known: Mapping[str, int] | None = None
) -> int | None:
    """The value of the attribute `name`, alike in all parts that have it; None if none has."""
    values = {key: getattr(part, name) for key, part in parts.items() if hasattr(part, name)}
    values.update(known or {})
    if len(set(values.values())) > 1:
        raise ValueError(
            f"{name} must agree, got "
            + ", ".join(f"{key}: {value}" for key, value in values.items())
        )
    return next(iter(values.values()), None)


def load_encodec_state_dict(model: EncodecModel, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Load the state dict of the encodec package's or AudioCraft's `EncodecModel` of the same
    sizes, with old-style or new-style weight norm and spectral norm."""
    model.load_state_dict(convert_old_keys(state_dict, model))


def export_encodec_state_dict(model: EncodecModel) -> dict[str, torch.Tensor]:
    """The state dict in the layout of the encodec package and of AudioCraft 1.3."""
    return export_old_style_keys(model.state_dict())


@torch.no_grad()
def initialise_from_data(model: EncodecModel, x: torch.Tensor, latents_only: bool = False) -> None:
    """Scale encoder and decoder to a first batch, without the quantizer between them.

    Latents then have mean 0 and variance 1 in each channel, and the output has the mean 0 and the
    level of the input; see `data_dependent_init` for why. Layers with spectral norm keep their
    scale.

    Args:
        x: `[B, C, T]`, a whole batch of ordinary material, the same on all ranks.
        latents_only: scale the encoder's last convolution alone. For generators whose own start is
            better than layers of variance 1, as DAC's, whose residual branches start weak.
    """
    x, _ = model.preprocess(x)
    if latents_only:
        layers = [m for m in model.encoder.modules() if isinstance(m, nn.Conv1d)]
        data_dependent_init(layers[-1], lambda: model.encoder(x))
        return
    changed = data_dependent_init(
        model, lambda: model.decoder(model.quantizer.unquantized(model.encoder(x)))
    )
    if not changed:
        return
    # The output of the last layer has variance 1 now, which the input rarely has.
    last, level = changed[-1], x.std()
    for parameter in (scale_parameter(last), last.bias):
        if isinstance(parameter, torch.Tensor):
            parameter.mul_(level)
