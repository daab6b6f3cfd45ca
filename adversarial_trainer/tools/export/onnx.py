"""ONNX export: encoder.onnx and decoder.onnx, for batches of signals of any length."""

from __future__ import annotations

import copy
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.modules.norm import fold_weight_norm

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
NAMES = (ENCODER, DECODER, "README.md")
OPSET = 20
_PACKAGES = ("onnx", "onnxscript")
TOLERANCE = 1e-4  # of audio, full scale being 1
SAME_CODES = 0.99  # least share; rounding decides between entries that are equally near


class OnnxEncoder(nn.Module):
    """Audio `[B, C, T]` to codes `[B, K, F]`, and where the model renormalizes scale `[B, 1]`."""

    def __init__(self, model: EncodecModel, num_codebooks: int) -> None:
        super().__init__()
        self.model = model
        self.tables = _tables(model)[:num_codebooks]

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, scale = self.model.preprocess(audio)
        residual = self.model.encoder(x).transpose(1, 2)  # [B, F, D]
        codes = []
        for table in self.tables:  # [bins, D]
            # Nearest by the largest 2 x.e - ||e||^2, as `quantization.codebook.nearest`.
            score = 2 * residual @ table.t() - table.square().sum(1)
            codes.append(score.argmax(-1))
            residual = residual - F.embedding(codes[-1], table)
        stacked = torch.stack(codes, 1)  # [B, K, F]
        return (stacked,) if scale is None else (stacked, scale)


class OnnxDecoder(nn.Module):
    """The inverse of `OnnxEncoder`, for codes of the first K codebooks, any K."""

    def __init__(self, model: EncodecModel) -> None:
        super().__init__()
        self.model = model
        # One table, so that how many codebooks there are is a size and not a loop.
        self.table = torch.cat(_tables(model))
        self.bins = model.cardinality

    def forward(self, codes: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        offsets = torch.arange(codes.shape[1], device=codes.device) * self.bins
        vectors = F.embedding(codes + offsets[None, :, None], self.table)  # [B, K, F, D]
        audio = self.model.decoder(vectors.sum(1).transpose(1, 2))
        return self.model.postprocess(audio, scale)


def write(codec: Codec, folder: Path, bandwidth: float | None = None) -> list[str]:
    """Write both files, and check them with onnxruntime where it is installed.

    Args:
        bandwidth: kb/s of the encoder; None: the highest.

    Returns:
        Lines for the user.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"--format onnx needs {', '.join(missing)}: pip install onnx onnxscript")
    _tables(codec.model)  # before the work
    count = codec.model.total_codebooks
    if bandwidth is not None:
        count = codec.model.codebooks_of(bandwidth)
    model = fold_weight_norm(copy.deepcopy(codec.model))
    _export(model, count, folder, _metadata(codec, count))
    told = f"encoder: {count} codebooks, {codec.model.bandwidth_of(count):g} kb/s; opset {OPSET}"
    if importlib.util.find_spec("onnxruntime") is None:
        return [told, "not checked: pip install onnxruntime"]
    difference, share = largest_difference(codec.model, folder / ENCODER, folder / DECODER, count)
    return [
        told,
        f"onnxruntime: audio differs by at most {difference:.2g}, {share:.4%} of codes are equal",
    ]


def usage(codec: Codec, name: str) -> str:
    """Return example code for the model card."""
    rate, channels = codec.model.sample_rate, codec.model.channels
    scale = ", scale" if codec.model.renormalize else ""
    feed = '{"codes": codes, "scale": scale}' if scale else '{"codes": codes}'
    left = f"codes{scale}" if scale else "(codes,)"
    return f"""\
import numpy as np
import onnxruntime

encoder = onnxruntime.InferenceSession("{name}/{ENCODER}")
decoder = onnxruntime.InferenceSession("{name}/{DECODER}")
# [B, {channels}, T] at {rate} Hz, any B and T: yours here
audio = 0.1 * np.random.randn(1, {channels}, {rate}).astype("float32")
{left} = encoder.run(None, {{"audio": audio}})  # [B, K, F]; the first k of K are a lower bandwidth
(decoded,) = decoder.run(None, {feed})
decoded = decoded[..., : audio.shape[-1]]  # it comes in whole frames"""


def _tables(model: EncodecModel) -> list[torch.Tensor]:
    """Return the quantizer's tables `[bins, D]`; ValueError if it is not a residual one."""
    tables = model.quantizer.residual_tables()
    if tables is None:
        raise ValueError(
            f"quantizer.name: a {type(model.quantizer).__name__} cannot be exported as ONNX, which "
            "needs one with `residual_tables`, such as rvq."
        )
    return tables


def _metadata(codec: Codec, num_codebooks: int) -> dict[str, str]:
    model = codec.model
    values = {
        "sample_rate": model.sample_rate,
        "channels": model.channels,
        "frame_rate": model.frame_rate,
        "num_codebooks": num_codebooks,
        "cardinality": model.cardinality,
        "hash": codec.hash,
    }
    return {key: str(value) for key, value in values.items()}


def _export(
    model: EncodecModel, num_codebooks: int, folder: Path, metadata: dict[str, str]
) -> None:
    # torch takes sizes of 1 for constants.
    audio = torch.zeros(2, model.channels, 5 * model.hop_length + 3)
    codes = torch.zeros(2, 2, 6, dtype=torch.long)
    waves = {"audio": {0: "batch", 2: "length"}}
    coded: dict[str, dict[int, str]] = {"codes": {0: "batch", 2: "frames"}}
    scale: dict[str, dict[int, str]] = {"scale": {0: "batch"}} if model.renormalize else {}
    if model.total_codebooks == 1:
        codes = codes[:, :1]
    else:
        coded["codes"][1] = "codebooks"
    encoder, decoder = OnnxEncoder(model, num_codebooks).eval(), OnnxDecoder(model).eval()
    decoded = (codes, torch.ones(2, 1)) if scale else (codes,)
    _export_one(encoder, (audio,), folder / ENCODER, waves, {**coded, **scale}, metadata)
    _export_one(decoder, decoded, folder / DECODER, {**coded, **scale}, waves, metadata)


def _export_one(
    module: nn.Module,
    args: tuple[torch.Tensor, ...],
    path: Path,
    inputs: dict[str, dict[int, str]],
    outputs: dict[str, dict[int, str]],
    metadata: dict[str, str],
) -> None:
    import onnx

    shapes = [dict.fromkeys(dims, torch.export.Dim.DYNAMIC) for dims in inputs.values()]
    with _quiet():
        program: Any = torch.onnx.export(
            module,
            args,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    proto = program.model_proto
    # Readable names of sizes instead of torch's formulas.
    del proto.graph.value_info[:]
    named = {**inputs, **outputs}
    for value in (*proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis in named[value.name] and dim.dim_param:
                dim.dim_param = named[value.name][axis]
    for node in proto.graph.node:  # paths of source files
        del node.metadata_props[:]
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's log lines and warnings about itself and torchvision."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


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
