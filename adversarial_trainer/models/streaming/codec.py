"""Encoder and decoder that give, piece by piece, what the model gives for the whole signal."""

from __future__ import annotations

import torch
from torch import nn

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming.interface import (
    ChunkDecoder,
    ChunkEncoder,
    EncodedChunk,
    Latency,
)
from adversarial_trainer.modules.streaming import State, StreamingModule

# Longer pieces are worked off in parts of so many frames, to bound the memory.
_FRAMES = 128


class WholeSignalNeeded(ValueError):
    """A model that cannot work piece by piece."""


def streaming_halves(model: EncodecModel) -> tuple[StreamingModule, StreamingModule]:
    """Return encoder and decoder of a model that can work piece by piece; raise WholeSignalNeeded,
    with the reason, if it cannot."""
    if model.renormalize:
        raise WholeSignalNeeded("renormalize=True: an item's volume is only known at its end")
    halves = []
    for half, module in (("encoder", model.encoder), ("decoder", model.decoder)):
        if not isinstance(module, StreamingModule):
            raise WholeSignalNeeded(f"{half}: a {type(module).__name__} has no method `step`")
        for name, layer in module.named_modules(prefix=half):
            if isinstance(layer, nn.GroupNorm):
                raise WholeSignalNeeded(f"{name}: GroupNorm averages over the whole signal")
        halves.append(module)
    return halves[0], halves[1]


class StreamingEncoder(ChunkEncoder):
    """`EncodecModel.encode` of a signal that comes in pieces.

    The frames of all chunks, one after another, are those of the whole signal. Equal to rounding:
    where two entries of a codebook are equally near to within it, another may be taken.

    Raises:
        WholeSignalNeeded: see `streaming_halves`.
    """

    def __init__(self, model: EncodecModel) -> None:
        self._encoder, _ = streaming_halves(model)
        super().__init__(model)

    @property
    def latency(self) -> Latency:
        """From audio to codes; `steady` counts from a frame's own first sample."""
        hop, far = self.model.hop_length, 1 << 20
        steady = self.needed(far) - (far - 1) * hop
        return Latency(self.needed(1), steady, self.model.sample_rate)

    def needed(self, frames: int) -> int:
        """Return how many samples must be pushed before `frames` (>= 1) frames are out."""
        return self._encoder.needed(frames)

    def reset(self) -> None:
        super().reset()
        self._state: State = {}

    def _encode(self, x: torch.Tensor, last: bool) -> list[EncodedChunk]:
        parts = x.split(_FRAMES * self.model.hop_length, -1)
        z = torch.cat([self._encoder.step(part, self._state, last) for part in parts], -1)
        return [EncodedChunk(self.model.quantizer.encode(z))] if z.shape[-1] else []


class StreamingDecoder(ChunkDecoder):
    """`EncodecModel.decode` of codes that come in pieces, whatever the encoder's were.

    Raises:
        WholeSignalNeeded: see `streaming_halves`.
    """

    def __init__(self, model: EncodecModel) -> None:
        _, self._decoder = streaming_halves(model)
        super().__init__(model)

    def needed(self, samples: int) -> int:
        """Return how many frames must be pushed before `samples` (>= 1) samples are out."""
        return self._decoder.needed(samples)

    def reset(self) -> None:
        super().reset()
        self._state: State = {}
        self._empty: torch.Tensor | None = None  # latents [B, D, 0]

    def _decode(self, chunk: EncodedChunk) -> torch.Tensor:
        if chunk.scale is not None:
            raise ValueError("scale given to a model with renormalize=False; give scale=None")
        audio = []
        for part in chunk.codes.split(_FRAMES, -1):
            z = self.model.decode_latent(part)
            self._empty = z[..., :0].clone()
            audio.append(self._decoder.step(z, self._state, False))
        return torch.cat(audio, -1)

    def _flush(self) -> torch.Tensor:
        if self._empty is None:
            raise ValueError("nothing to decode: no frame was pushed")
        return self._decoder.step(self._empty, self._state, True)


def codec_latency(encoder: StreamingEncoder, decoder: StreamingDecoder) -> Latency:
    """Return the latency from audio in to audio out. A player that waits for the longer of `first`
    and `steady` never runs dry."""
    hop, far = encoder.model.hop_length, 1 << 20
    first = encoder.needed(decoder.needed(1))
    steady = max(
        encoder.needed(decoder.needed(far * hop + sample + 1)) - far * hop - sample
        for sample in range(hop)
    )
    return Latency(first, steady, encoder.model.sample_rate)
