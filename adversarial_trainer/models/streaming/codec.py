"""Encoder and decoder that give, piece by piece, what the model makes of the whole signal."""

from __future__ import annotations

import torch

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming.interface import (
    ChunkDecoder,
    ChunkEncoder,
    EncodedChunk,
    Latency,
    hop_length,
)
from adversarial_trainer.models.streaming.layers import WholeSignalNeeded, streaming_layer

# Longer pieces are worked off in parts of so many frames, to bound the memory.
_FRAMES = 128


class StreamingEncoder(ChunkEncoder):
    """`EncodecModel.encode` of a signal of which only pieces are there at a time.

    The frames of all chunks, one after another, are those of the whole signal. Equal to rounding:
    where two entries of a codebook are equally near to within it, another may be taken.

    Args:
        model: in evaluation mode. Its encoder's weights are used as they are now.

    Raises:
        NotStreamable: part of the encoder looks at the whole signal.
    """

    def __init__(self, model: EncodecModel) -> None:
        if model.renormalize:
            raise WholeSignalNeeded("renormalize=True: an item's volume is only known at its end")
        self._layers = streaming_layer(model.encoder, "encoder")
        super().__init__(model)

    @property
    def latency(self) -> Latency:
        """From audio to codes; `steady` counts from a frame's own first sample."""
        hop, far = hop_length(self.model), 1 << 20
        steady = self.needed(far) - (far - 1) * hop
        return Latency(self.needed(1), steady, self.model.sample_rate)

    def needed(self, frames: int) -> int:
        """Samples that must be pushed before `frames` (>= 1) frames have left."""
        return self._layers.needed(frames)

    def reset(self) -> None:
        super().reset()
        self._layers.reset()

    def _encode(self, x: torch.Tensor, last: bool) -> list[EncodedChunk]:
        parts = x.split(_FRAMES * hop_length(self.model), -1)
        latents = [self._layers.step(part, last) for part in parts]
        z = torch.cat(latents, -1)
        return [EncodedChunk(self.model.quantizer.encode(z))] if z.shape[-1] else []


class StreamingDecoder(ChunkDecoder):
    """`EncodecModel.decode` of codes of which only pieces are there at a time; any pieces.

    Args:
        model: in evaluation mode. Its decoder's weights are used as they are now.

    Raises:
        NotStreamable: part of the decoder looks at the whole signal.
    """

    def __init__(self, model: EncodecModel) -> None:
        if model.renormalize:
            raise WholeSignalNeeded("renormalize=True: an item's volume is only known at its end")
        self._layers = streaming_layer(model.decoder, "decoder")
        super().__init__(model)

    def needed(self, samples: int) -> int:
        """Frames that must be pushed before `samples` (>= 1) samples have left."""
        return self._layers.needed(samples)

    def reset(self) -> None:
        super().reset()
        self._layers.reset()
        self._empty: torch.Tensor | None = None  # latents [B, D, 0]

    def _decode(self, chunk: EncodedChunk) -> torch.Tensor:
        if chunk.scale is not None:
            raise ValueError("scale given to a model with renormalize=False; give scale=None")
        audio = []
        for part in chunk.codes.split(_FRAMES, -1):
            z = self.model.decode_latent(part)
            self._empty = z[..., :0].clone()
            audio.append(self._layers.step(z, False))
        return torch.cat(audio, -1)

    def _flush(self) -> torch.Tensor:
        if self._empty is None:
            raise ValueError("nothing to decode: no frame was pushed")
        return self._layers.step(self._empty, True)


def codec_latency(encoder: StreamingEncoder, decoder: StreamingDecoder) -> Latency:
    """From audio in to audio out. A player that waits for the longer of the two never runs dry."""
    hop, far = hop_length(encoder.model), 1 << 20
    first = encoder.needed(decoder.needed(1))
    steady = max(
        encoder.needed(decoder.needed(far * hop + sample + 1)) - far * hop - sample
        for sample in range(hop)
    )
    return Latency(first, steady, encoder.model.sample_rate)
