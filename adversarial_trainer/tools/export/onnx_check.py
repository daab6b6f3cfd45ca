"""Comparison of an ONNX export, run by onnxruntime, with the codec itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from adversarial_trainer.models.encodec import EncodecModel

TOLERANCE = 1e-4  # of audio, full scale being 1
SAME_CODES = 0.99  # least share; rounding decides between entries that are equally near


def is_possible() -> bool:
    """Return whether onnxruntime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


@torch.no_grad()
def largest_difference(
    model: EncodecModel, encoder: Path, decoder: Path, num_codebooks: int
) -> tuple[float, float]:
    """Return the largest difference of audio decoded from the same codes, and the share of equal
    codes, over batches of 1 and 2 and lengths that are no whole hops.

    Raises:
        ValueError: the difference is above `TOLERANCE`, or the share below `SAME_CODES`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    encode, decode = (
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for path in (encoder, decoder)
    )
    hop = model.hop_length
    generator = torch.Generator().manual_seed(0)
    difference, same, total = 0.0, 0, 0
    for batch, length in ((1, 1), (1, hop), (2, 7 * hop + 1), (1, 20 * hop - 1)):
        audio = 0.1 * torch.randn(batch, model.channels, length, generator=generator)
        codes, scale = model.encode(audio)
        found = encode.run(None, {"audio": audio.numpy()})
        same += int((torch.from_numpy(found[0]) == codes[:, :num_codebooks]).sum())
        total += found[0].size
        scales = {} if scale is None else {"scale": scale.numpy()}
        # All codebooks, and some: the decoder takes any number.
        for count in {codes.shape[1], 1}:
            part = codes[:, :count]
            y = torch.from_numpy(decode.run(None, {"codes": part.numpy(), **scales})[0])
            difference = max(difference, float((y - model.decode(part, scale)).abs().max()))
    share = same / total
    if not (difference <= TOLERANCE and share >= SAME_CODES):
        raise ValueError(
            f"onnxruntime differs: by {difference:.2g} in audio (at most {TOLERANCE:g} is right), "
            f"{share:.2%} of codes are the same."
        )
    return difference, share
