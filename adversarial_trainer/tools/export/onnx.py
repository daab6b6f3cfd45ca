"""ONNX export: encoder.onnx and decoder.onnx, for batches of signals of any length."""

from __future__ import annotations

import copy
import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.modules.norm import fold_weight_norm
from adversarial_trainer.registry import format_count

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
NAMES = (ENCODER, DECODER)
OPSET = 20
TOLERANCE = 1e-4  # of audio, full scale being 1
SAME_CODES = 0.99  # least share; rounding decides between entries that are equally near


class OnnxEncoder(nn.Module):
    """Audio `[B, C, T]` to codes `[B, K, F]` of the codebooks in use, and where the model
    renormalizes scale `[B, 1]`."""

    def __init__(self, model: EncodecModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, ...]:
        codes, scale = self.model.encode(audio)
        return (codes,) if scale is None else (codes, scale)


class OnnxDecoder(nn.Module):
    """The inverse of `OnnxEncoder`, for codes of the first K codebooks, any K."""

    def __init__(self, model: EncodecModel) -> None:
        super().__init__()
        self.model = model
        tables = _tables(model)  # [K, bins, D]
        self.bins = tables.shape[1]
        # One table, so that how many codebooks there are is a size and not a loop.
        self.table = tables.flatten(0, 1)

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
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"--format onnx needs {', '.join(missing)}: pip install onnx onnxscript")
    model = codec.model
    count = model.total_codebooks if bandwidth is None else model.codebooks_of(bandwidth)
    _export(codec, count, folder)
    codebooks = format_count(count, "codebook")
    told = f"encoder: {codebooks}, {model.bandwidth_of(count):g} kb/s; opset {OPSET}"
    if importlib.util.find_spec("onnxruntime") is None:
        return [told, "not checked: pip install onnxruntime"]
    difference, share = largest_difference(model, folder, count)
    return [
        told,
        f"onnxruntime: audio differs by at most {difference:.2g}, {share:.4%} of codes are equal",
    ]


@torch.no_grad()
def _tables(model: EncodecModel) -> torch.Tensor:
    """Return the quantizer's tables `[K, bins, D]`; ValueError for models that do not decode by
    them."""
    if (type(model).encode, type(model).decode) != (EncodecModel.encode, EncodecModel.decode):
        name = type(model).__name__
        raise ValueError(f"model.name: a {name}, which codes its own way, cannot go as ONNX.")
    tables = model.quantizer.tables()
    if tables is None:
        raise ValueError(
            f"quantizer.name: a {type(model.quantizer).__name__} cannot be exported as ONNX, which "
            "needs a quantizer with `tables`, such as rvq."
        )
    return tables


def _export(codec: Codec, num_codebooks: int, folder: Path) -> None:
    model = fold_weight_norm(copy.deepcopy(codec.model))
    model.set_num_codebooks(num_codebooks)
    encoder, decoder = OnnxEncoder(model).eval(), OnnxDecoder(model).eval()
    metadata = {
        "sample_rate": str(model.sample_rate),
        "channels": str(model.channels),
        "frame_rate": str(model.frame_rate),
        "num_codebooks": str(num_codebooks),
        "cardinality": str(model.cardinality),
        "hash": codec.hash,
    }
    # torch takes sizes of 1 for constants.
    audio = torch.zeros(2, model.channels, 5 * model.hop_length + 3)
    codes = torch.zeros(2, min(2, model.total_codebooks), 6, dtype=torch.long)
    waves = {"audio": {0: "batch", 2: "length"}}
    coded: dict[str, dict[int, str]] = {"codes": {0: "batch", 2: "frames"}}
    if model.total_codebooks > 1:
        coded["codes"][1] = "codebooks"
    inputs: tuple[torch.Tensor, ...] = (codes,)
    if model.renormalize:
        coded["scale"] = {0: "batch"}
        inputs = (codes, torch.ones(2, 1))
    _export_one(encoder, (audio,), folder / ENCODER, waves, coded, metadata)
    _export_one(decoder, inputs, folder / DECODER, coded, waves, metadata)


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
    # The exporter's log lines and warnings are about itself and torchvision.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
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


@torch.no_grad()
def largest_difference(
    model: EncodecModel, folder: Path, num_codebooks: int
) -> tuple[float, float]:
    """Return the largest difference of audio decoded from the same codes, and the share of equal
    codes, over batches of 1 and 2 and lengths that are no whole hops.

    Raises:
        ValueError: the difference is above `TOLERANCE`, or the share below `SAME_CODES`.
    """
    import onnxruntime

    encode, decode = (
        onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        for name in NAMES
    )
    hop = model.hop_length
    generator = torch.Generator().manual_seed(0)
    difference, same, total = 0.0, 0, 0
    for batch, length in ((1, 1), (2, 7 * hop + 1), (1, 20 * hop - 1)):
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
