"""Encoders and decoders at the frame rate: MDCT and inverse STFT."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from adversarial_trainer.modules.convnext import ConvNeXtBlock, GlobalResponseNorm
from adversarial_trainer.modules.istft import ISTFTDecoder, PolarHead, STFTEncoder
from adversarial_trainer.modules.lapped import LappedTransform, mdct_basis
from adversarial_trainer.modules.mdct import MDCTDecoder, MDCTEncoder

SMALL: dict[str, Any] = dict(dimension=6, hidden_dim=8, intermediate_dim=12, num_layers=2)
MDCT = dict(num_coefficients=10)
STFT = dict(n_fft=32, hop_length=8)
MDCTCODEC: dict[str, Any] = dict(
    num_coefficients=40, stride=8, grn=True, norm="weight_norm", last_kernel_size=7
)


def pair(kind: str, **kwargs: Any) -> tuple[nn.Module, nn.Module]:
    options = {**(MDCT if kind == "mdct" else STFT), **SMALL, **kwargs}
    if kind == "mdct":
        return MDCTEncoder(**options), MDCTDecoder(**options)
    return STFTEncoder(**options), ISTFTDecoder(**options)


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(["mdct", "istft"]),
    length=st.integers(1, 100),
    channels=st.integers(1, 2),
    causal=st.booleans(),
    grn=st.booleans(),
    layer_scale=st.sampled_from([None, 0.5]),
    stride=st.integers(1, 3),
)
def test_length_in_is_frames_out(kind, length, channels, causal, grn, layer_scale, stride) -> None:
    options = dict(channels=channels, causal=causal and not grn, grn=grn, layer_scale=layer_scale)
    if kind == "mdct":
        options.update(stride=stride, companding=grn)
    encoder, decoder = pair(kind, **options)
    hop = 8 if kind == "istft" else 10 * stride
    assert encoder.hop_length == decoder.hop_length == hop
    z = encoder(torch.randn(2, channels, length))
    assert z.shape == (2, 6, math.ceil(length / hop))
    y = decoder(z)
    assert y.shape == (2, channels, z.shape[-1] * hop) and y.isfinite().all()


def plain_block(x: Tensor, w: Mapping[str, Tensor], name: str) -> Tensor:
    """ConvNeXt V2's, in [B, T, C] after the depthwise convolution."""
    y = F.conv1d(x, w[f"{name}dwconv.conv.conv.weight"], w[f"{name}dwconv.conv.conv.bias"],
                 padding=3, groups=x.shape[1])  # fmt: skip
    y = y.transpose(1, 2)
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()
    y = y * w[f"{name}mlp.0.weight"] + w[f"{name}mlp.0.bias"]
    y = F.gelu(y @ w[f"{name}mlp.1.weight"].T + w[f"{name}mlp.1.bias"])
    energy = y.square().sum(1, keepdim=True).sqrt()
    response = energy / (energy.mean(2, keepdim=True) + 1e-6)
    y = w[f"{name}mlp.3.gamma"] * (y * response) + w[f"{name}mlp.3.beta"] + y
    y = y @ w[f"{name}mlp.4.weight"].T + w[f"{name}mlp.4.bias"]
    return x + y.transpose(1, 2)


def plain_norm(x: Tensor, w: Mapping[str, Tensor], name: str) -> Tensor:
    y = F.layer_norm(x.transpose(1, 2), x.shape[1:2], w[f"{name}weight"], w[f"{name}bias"], 1e-6)
    return y.transpose(1, 2)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters, random, and of weight norm the weight that they stand for."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    found = dict(module.named_parameters())
    for name, layer in module.named_modules():
        if hasattr(layer, "parametrizations"):
            found[f"{name}.weight"] = layer.weight
    return found


def test_encoder_and_decoder_are_mdctcodecs() -> None:
    """Layer by layer, as the authors' xhjiang1/CFMDCTCodec has them (the decoder's convolution
    ahead of the blocks is in its published weights only)."""
    options = {**MDCTCODEC, "hidden_dim": 8, "intermediate_dim": 12, "num_layers": 2}
    encoder = MDCTEncoder(**options, dimension=6, stride_kernel_size=7).double()
    decoder = MDCTDecoder(**options, dimension=6, stride_kernel_size=16).double()
    x = torch.randn(2, 1, 1600, dtype=torch.float64)
    coefficients = LappedTransform(mdct_basis(40)[0], 40)(x)
    w = weights_of(encoder)
    z = F.conv1d(
        coefficients, w["model.1.conv.conv.weight"], w["model.1.conv.conv.bias"], padding=3
    )
    z = plain_norm(z, w, "model.2.model.0.")
    for block in "12":
        z = plain_block(z, w, f"model.2.model.{block}.")
    z = plain_norm(z, w, "model.2.model.3.")
    z = F.conv1d(z, w["model.3.conv.conv.weight"], w["model.3.conv.conv.bias"])
    z = F.conv1d(z, w["model.4.conv.conv.weight"], w["model.4.conv.conv.bias"], 8, padding=3)
    z = F.conv1d(z, w["model.5.conv.conv.weight"], w["model.5.conv.conv.bias"], padding=3)
    torch.testing.assert_close(encoder(x), z)
    w = weights_of(decoder)
    y = F.conv1d(z, w["model.0.conv.conv.weight"], w["model.0.conv.conv.bias"], padding=3)
    y = F.conv_transpose1d(
        y, w["model.1.convtr.convtr.weight"], w["model.1.convtr.convtr.bias"], 8, padding=4
    )
    y = F.conv1d(y, w["model.2.conv.conv.weight"], w["model.2.conv.conv.bias"], padding=3)
    y = plain_norm(y, w, "model.3.model.0.")
    for block in "12":
        y = plain_block(y, w, f"model.3.model.{block}.")
    y = plain_norm(y, w, "model.3.model.3.")
    y = F.conv1d(y, w["model.4.conv.conv.weight"], w["model.4.conv.conv.bias"])
    y = F.conv1d(y, w["model.5.conv.conv.weight"], w["model.5.conv.conv.bias"], padding=3)
    # Orthonormal, hence the transform of the inverse; away from the ends.
    found = LappedTransform(mdct_basis(40)[0], 40)(decoder(z))
    torch.testing.assert_close(found[..., 1:-1], y[..., 1:-1], rtol=0, atol=1e-6)


def test_parameters_are_mdctcodecs() -> None:
    """Counted by hand: embedding, norms, eight blocks, linear layer, the strided convolution, that
    at the latent and the last one; without weight norm's scales."""
    block = 256 * 7 + 256 + 512 + 256 * 512 + 512 + 2 * 512 + 512 * 256 + 256
    common = 8 * block + 4 * 256 + 256 * 256 + 256
    encoder = common + 40 * 256 * 7 + 256 + 256 * 256 * 7 + 256 + 256 * 32 * 7 + 32
    decoder = common + 32 * 256 * 7 + 256 + 256 * 256 * 16 + 256
    decoder += 256 * 256 * 7 + 256 + 256 * 40 * 7 + 40
    counts = []
    for module in (
        MDCTEncoder(**MDCTCODEC, stride_kernel_size=7),
        MDCTDecoder(**MDCTCODEC, stride_kernel_size=16),
    ):
        scales = [p for name, p in module.named_parameters() if name.endswith("original0")]
        counts.append(sum(p.numel() for p in module.parameters()) - sum(p.numel() for p in scales))
    assert counts == [encoder, decoder] and encoder + decoder == 6_623_048


@pytest.mark.parametrize("kind", ["mdct", "istft"])
def test_causal_layers_look_at_no_later_frame(kind: str) -> None:
    """A sample reaches no further back than the windows of the transforms do."""
    encoder, decoder = pair(kind, causal=True, layer_scale=0.5)
    overlap = 10 if kind == "mdct" else 24  # of windows, half of it on either side
    hop, x = encoder.hop_length, torch.randn(1, 1, 160)
    a = encoder(x)
    for start in (0, 7, 40, 83, 159):
        changed = x.clone()
        changed[..., start:] += 1
        b = encoder(changed)
        same = max(0, (start - overlap // 2) // hop)
        assert torch.equal(a[..., :same], b[..., :same])
        assert not torch.allclose(a[..., same], b[..., same])
    y = decoder(a)
    for frame in (0, 3, 9):
        changed = a.clone()
        changed[..., frame:] += 1
        same = max(0, frame * hop - overlap // 2)
        z = decoder(changed)
        assert torch.equal(y[..., :same], z[..., :same])
        assert not torch.allclose(y[..., same : same + hop], z[..., same : same + hop])


@pytest.mark.parametrize("kind", ["mdct", "istft"])
def test_gradient_reaches_every_parameter(kind: str) -> None:
    encoder, decoder = pair(kind, channels=2, layer_scale=0.5)
    x = torch.randn(2, 2, 70, requires_grad=True)
    decoder(encoder(x)).square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and (x.grad != 0).all()
    for module in (encoder, decoder):
        for name, p in module.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all(), name
            assert p.grad.abs().sum() > 0, name


def test_silence_has_finite_gradients() -> None:
    for kind in ("mdct", "istft"):
        for grn in (False, True):
            options = {"companding": True} if kind == "mdct" else {}
            encoder, decoder = pair(kind, grn=grn, **options)
            x = torch.zeros(1, 1, 100, requires_grad=True)
            decoder(encoder(x)).square().sum().backward()
            for gradient in (x.grad, *(p.grad for p in encoder.parameters())):
                assert gradient is not None and gradient.isfinite().all()


def test_magnitudes_are_limited() -> None:
    """To 100 as in Vocos, and where exp would overflow gradients stay finite."""
    x = torch.tensor([0.0, 3.0, 200.0, 0.0, 1.0, 2.0]).view(1, 6, 1).requires_grad_()
    y = PolarHead(1)(x)
    magnitude = torch.tensor([1.0, math.exp(3), 100.0])
    phase = torch.tensor([0.0, 1.0, 2.0])
    wanted = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()])
    torch.testing.assert_close(y.flatten(), wanted)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all() and gradient[0, 2] == 0


def test_layer_scale_and_response_norm_start_as_published() -> None:
    x = torch.randn(2, 5, 4)
    assert torch.equal(GlobalResponseNorm(4)(x), x)
    block = ConvNeXtBlock(4, 8, layer_scale=0.0)
    assert torch.equal(block(x.transpose(1, 2)), x.transpose(1, 2))
    assert len(ConvNeXtBlock(4, 8).mlp) == 4 and len(block.mlp) == 5


@pytest.mark.parametrize(
    "kind, kwargs, message",
    [
        ("mdct", dict(num_coefficients=5), "num_coefficients must be even.*5"),
        ("mdct", dict(causal=True, grn=True), "grn=True needs causal=False"),
        ("mdct", dict(num_layers=-1), "num_layers must be an integer >= 0, got -1"),
        ("mdct", dict(stride=0), "stride must be an integer >= 1, got 0"),
        ("mdct", dict(norm="batch"), "norm must be none or weight_norm, got 'batch'"),
        ("mdct", dict(stride=4, stride_kernel_size=3, causal=True), "stride=4 .*kernel_size=3"),
        ("istft", dict(n_fft=12), "n_fft.*hop_length.*12"),
        ("istft", dict(hop_length=5, n_fft=10), "n_fft"),
        ("istft", dict(hop_length=0), "hop_length"),
    ],
)
def test_errors(kind: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair(kind, **kwargs)
