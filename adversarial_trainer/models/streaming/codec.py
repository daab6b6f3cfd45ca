"""Encoder and decoder that give, piece by piece, what the model gives for the whole signal."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from adversarial_trainer.audio.files import check_finite
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.modules.convnext import GlobalResponseNorm
from adversarial_trainer.modules.streaming import State, StreamingModule

# Longer pieces are worked off in parts of so many frames, to bound the memory.
_FRAMES = 128


class EncodedChunk(NamedTuple):
    """Codes of a stretch of a signal.

    Attributes:
        codes: `[B, K, F]` (`[B, 1, D, F]` without quantization), frames last.
        scale: `[B, 1]`, what to multiply the decoded audio by, or None.
    """

    codes: torch.Tensor
    scale: torch.Tensor | None = None


class _OneSignal:
    """Something for one signal, which ends with `finish`."""

    def __init__(self, model: EncodecModel) -> None:
        if model.training:
            raise ValueError("the model is in training mode; call model.eval() first")
        self.model = model
        self._ended = False

    def _go_on(self, last: bool = False) -> None:
        if self._ended:
            raise ValueError(f"this signal has ended: make another {type(self).__name__}")
        self._ended = last


class ChunkEncoder(_OneSignal):
    """One signal in, in pieces of any length; chunks of its codes out, as soon as they are known.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: EncodecModel) -> None:
        super().__init__(model)
        self._samples = 0
        self._empty: torch.Tensor | None = None  # the last input, `[B, C, 0]`

    @torch.no_grad()
    def push(self, x: torch.Tensor) -> list[EncodedChunk]:
        """Return the chunks that `x` completes.

        Args:
            x: floats `[B, C, T]`, T >= 0; B the same for the whole signal.
        """
        self._go_on()
        if x.dim() != 3 or x.shape[1] != self.model.channels or not x.is_floating_point():
            raise ValueError(
                f"audio must be floats of shape [B, C, T] with C={self.model.channels}, "
                f"got {x.dtype} {list(x.shape)}"
            )
        check_finite(x, self._samples, self.model.sample_rate)
        self._empty = x[..., :0].clone()
        self._samples += x.shape[-1]
        return self._encode(x, False)

    @torch.no_grad()
    def finish(self) -> list[EncodedChunk]:
        """Return the last chunks, with the padding at the end of the signal."""
        if self._empty is None or not self._samples:
            raise ValueError("nothing to encode: a signal needs at least one sample, got none")
        self._go_on(last=True)
        return self._encode(self._empty, True)

    def _encode(self, x: torch.Tensor, last: bool) -> list[EncodedChunk]:
        raise NotImplementedError


class ChunkDecoder(_OneSignal):
    """The chunks of a `ChunkEncoder` in, in order; audio out, as soon as it is known.

    Args:
        model: in evaluation mode.
    """

    def push(self, chunk: EncodedChunk) -> torch.Tensor:
        """Return the audio `[B, C, T]`, T >= 0, that `chunk` completes."""
        raise NotImplementedError

    def finish(self) -> torch.Tensor:
        """Return the rest of the audio, `[B, C, T]`. The padding to a whole frame is included: cut
        the whole to the original length."""
        raise NotImplementedError


def streaming_obstacle(model: EncodecModel) -> str | None:
    """Return why a model cannot work piece by piece; None if it can."""
    if model.renormalize:
        return "renormalize=True: an item's volume is only known at its end"
    for name in ("preprocess", "postprocess", "encode", "decode"):
        if getattr(type(model), name) is not getattr(EncodecModel, name):
            return f"{type(model).__name__} has a {name} of its own"
    for half, module in (("encoder", model.encoder), ("decoder", model.decoder)):
        if not isinstance(module, StreamingModule):
            return f"{half}: a {type(module).__name__} has no method `step`"
        for name, layer in module.named_modules(prefix=half):
            if isinstance(layer, nn.GroupNorm | GlobalResponseNorm):
                return f"{name}: {type(layer).__name__} averages over the whole signal"
    return None


def _streaming(module: nn.Module, model: EncodecModel) -> StreamingModule:
    obstacle = streaming_obstacle(model)
    if obstacle is not None or not isinstance(module, StreamingModule):
        raise ValueError(f"this model needs whole signals: {obstacle}")
    return module


class StreamingEncoder(ChunkEncoder):
    """`EncodecModel.encode` of a signal that comes in pieces.

    The frames of all chunks, one after another, are those of the whole signal. Equal to rounding:
    where two entries of a codebook are equally near to within it, another may be taken.

    Raises:
        ValueError: the model needs whole signals, see `streaming_obstacle`.
    """

    def __init__(self, model: EncodecModel) -> None:
        super().__init__(model)
        self._encoder = _streaming(model.encoder, model)
        self._state: State = {}

    def _encode(self, x: torch.Tensor, last: bool) -> list[EncodedChunk]:
        parts = x.split(_FRAMES * self.model.hop_length, -1)
        z = torch.cat([self._encoder.step(part, self._state, last) for part in parts], -1)
        return [EncodedChunk(self.model.quantizer.encode(z))] if z.shape[-1] else []


class StreamingDecoder(ChunkDecoder):
    """`EncodecModel.decode` of codes that come in pieces, whatever the encoder's were.

    Raises:
        ValueError: the model needs whole signals, see `streaming_obstacle`.
    """

    def __init__(self, model: EncodecModel) -> None:
        super().__init__(model)
        self._decoder = _streaming(model.decoder, model)
        self._state: State = {}
        self._empty: torch.Tensor | None = None  # the last latents, `[B, D, 0]`

    @torch.no_grad()
    def push(self, chunk: EncodedChunk) -> torch.Tensor:
        self._go_on()
        if chunk.scale is not None:
            raise ValueError("scale given to a model with renormalize=False; give scale=None")
        audio = []
        for part in chunk.codes.split(_FRAMES, -1):
            z = self.model.decode_latent(part)
            self._empty = z[..., :0].clone()
            audio.append(self._decoder.step(z, self._state, False))
        return torch.cat(audio, -1)

    @torch.no_grad()
    def finish(self) -> torch.Tensor:
        if self._empty is None:
            raise ValueError("nothing to decode: no frame was pushed")
        self._go_on(last=True)
        return self._decoder.step(self._empty, self._state, True)
