"""Codecs at the frame rate, from configuration to export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from micro import configured, small
from recipes import audio, loaded

from adversarial_trainer.models.builders import get_model
from adversarial_trainer.models.encodec import initialise_from_data
from adversarial_trainer.models.pretrained.codec import prepare_inference
from adversarial_trainer.tools.export import export

MODELS = ["mdct", "tiny_mdct", "istft"]


def argv_of(name: str, *overrides: str) -> list[str]:
    argv = ["solver=tiny", f"model={name}", *overrides]
    return [*argv[1:], *small(*argv)]


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_prepared_for_inference_it_gives_the_same(name: str) -> None:
    model = loaded("tiny", *argv_of(name, "channels=2")).model
    x = audio(2, 5003, 16000)[None]
    (codes, _), y = model.encode(x), model(x).x
    assert y.shape == x.shape
    prepare_inference(model)
    assert torch.equal(model.encode(x)[0], codes)
    torch.testing.assert_close(model(x).x, y, rtol=0, atol=float(2e-5 * y.abs().max()))


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_data_init_scales_latents_and_leaves_transforms(name: str) -> None:
    """Layer scales, layer norms and linear layers stay as they are."""
    torch.manual_seed(0)
    model = get_model(configured("solver=tiny", *argv_of(name, "quantizer=none")))
    kept = {n: p.clone() for n, p in model.named_parameters() if ".mlp." in n or "gamma" in n}
    bases = {n: b.clone() for n, b in model.named_buffers()}
    x = audio(4, 16000, 16000).view(4, 1, -1)
    initialise_from_data(model, x)
    z = model.encoder(x)
    assert kept and all(torch.equal(model.get_parameter(n), p) for n, p in kept.items())
    assert bases and all(torch.equal(model.get_buffer(n), b) for n, b in bases.items())
    torch.testing.assert_close(z.mean((0, 2)), torch.zeros(8), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.var((0, 2), correction=0), torch.ones(8), rtol=0, atol=1e-3)
    assert model(x).x.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_near_float32(name: str) -> None:
    """Layers run in bfloat16, transforms do not; gradients are finite."""
    torch.manual_seed(0)
    model = get_model(configured("solver=tiny", *argv_of(name, "quantizer=none")))
    x = audio(2, 4000, 16000).view(2, 1, -1)
    wanted = model(x).x
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x).x
    assert y.dtype == torch.float32
    assert (y - wanted).square().mean() < 1e-2 * wanted.square().mean()
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mdct", "istft"])
def test_onnx(name: str, tmp_path: Path) -> None:
    """Which checks itself with onnxruntime, at several lengths."""
    codec = loaded("tiny", *argv_of(name, "channels=2"))
    lines = export(codec, tmp_path / "out", "onnx")
    assert any(line.startswith("onnxruntime: audio differs by at most") for line in lines)
