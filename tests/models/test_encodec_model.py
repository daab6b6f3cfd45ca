import math

import encodec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adversarial_trainer.models.encodec import (
    EncodecModel,
    export_encodec_state_dict,
    load_encodec_state_dict,
)
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder
from adversarial_trainer.quantization import DummyQuantizer
from adversarial_trainer.quantization.rvq import ResidualVectorQuantizer

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")

PUBLISHED = {
    "24khz": dict(
        sample_rate=24000,
        channels=1,
        causal=True,
        norm="weight_norm",
        n_q=32,
        bandwidths=[1.5, 3.0, 6.0, 12.0, 24.0],
    ),
    "48khz": dict(
        sample_rate=48000,
        channels=2,
        causal=False,
        norm="time_group_norm",
        n_q=16,
        bandwidths=[3.0, 6.0, 12.0, 24.0],
    ),
}


def small_model(channels=1, causal=True, renormalize=False, sample_rate=600, quantizer=None):
    """Hop length 6, and three codebooks of 4 bits."""
    options = dict(channels=channels, dimension=6, n_filters=2, ratios=[3, 2], causal=causal)
    options |= dict(pad_mode="constant", lstm=1)
    encoder, decoder = SEANetEncoder(**options), SEANetDecoder(**options)
    quantizer = quantizer or ResidualVectorQuantizer(6, 3, bins=16, kmeans_init=False)
    settings = dict(causal=causal, renormalize=renormalize)
    rates = sample_rate / 6, sample_rate
    return EncodecModel(encoder, decoder, quantizer, *rates, channels, **settings).eval()


def noise_and_tones(channels, length):
    t = torch.arange(length) / 24000
    tone = 0.3 * torch.sin(2 * math.pi * 440 * t * (1 + t)) * torch.exp(-3 * t)
    return (tone + 0.05 * torch.randn(2, channels, length)) * torch.tensor([1.0, 0.2]).view(2, 1, 1)


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request):
    """The encodec package's model with random weights and codebooks, and ours with the same."""
    torch.manual_seed(0)
    spec = PUBLISHED[request.param]
    theirs = encodec.EncodecModel._get_model(
        spec["bandwidths"],
        spec["sample_rate"],
        spec["channels"],
        causal=spec["causal"],
        model_norm=spec["norm"],
        audio_normalize=not spec["causal"],
    ).eval()
    # Latents as large and as varied as a trained model's.
    with torch.no_grad():
        for name, p in theirs.encoder.named_parameters():
            if name.endswith("conv.weight_g") or name.endswith("conv.weight"):
                p.mul_(1.5)
            elif name.endswith("bias"):
                p.mul_(0.1)
        residual = theirs.encoder(noise_and_tones(spec["channels"], 4800))
    for layer in theirs.quantizer.vq.layers:
        book = layer._codebook
        std = residual.std((0, 2)) * 0.7
        book.embed.copy_(residual.mean((0, 2)) + std * torch.randn_like(book.embed))
        book.embed_avg.copy_(book.embed)
        book.cluster_size.fill_(1.0)
        book.inited.fill_(1.0)
        residual = residual - layer.decode(layer.encode(residual))
    options = dict(
        channels=spec["channels"],
        norm=spec["norm"],
        causal=spec["causal"],
        n_residual_layers=1,
        true_skip=False,
        lstm=2,
    )
    ours = EncodecModel(
        SEANetEncoder(**options),
        SEANetDecoder(**options),
        ResidualVectorQuantizer(128, spec["n_q"]),
        spec["sample_rate"] / 320,
        spec["sample_rate"],
        spec["channels"],
        causal=spec["causal"],
        renormalize=not spec["causal"],
    ).eval()
    load_encodec_state_dict(ours, theirs.state_dict())
    return spec, theirs, ours


@torch.no_grad()
@pytest.mark.parametrize("length", [7777, 5])
def test_equals_the_encodec_package(published, length):
    """Equal codes, equal audio: mono causal 24 kHz, stereo renormalised 48 kHz."""
    spec, theirs, ours = published
    x = noise_and_tones(spec["channels"], length)
    for bandwidth in (spec["bandwidths"][0], spec["bandwidths"][-1]):
        theirs.set_target_bandwidth(bandwidth)
        ours.set_target_bandwidth(bandwidth)
        ((their_codes, their_scale),) = theirs.encode(x)
        codes, scale = ours.encode(x)
        assert codes.shape == (2, ours.num_codebooks, math.ceil(length / 320))
        assert torch.equal(codes, their_codes)
        if their_scale is None:
            assert scale is None
        else:
            torch.testing.assert_close(scale, their_scale)
        expected = theirs.decode([(their_codes, their_scale)])
        torch.testing.assert_close(ours.decode(codes, scale), expected, atol=1e-4, rtol=0)
        result = ours(x)
        torch.testing.assert_close(result.x, theirs(x), atol=1e-4, rtol=0)
        assert torch.equal(result.codes, codes)
        assert float(result.bandwidth) == pytest.approx(bandwidth)
    if length > 1000:  # it was a test of something
        assert all(len(book.unique()) > 10 for book in codes.unbind(1))
        assert expected.std() > 1e-3


def test_weights_go_back_to_the_encodec_package(published):
    spec, theirs, ours = published
    exported = export_encodec_state_dict(ours)
    assert exported.keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        assert torch.equal(exported[key], value), key
    theirs.load_state_dict(exported)


@settings(deadline=None, max_examples=20)
@given(
    length=st.integers(1, 100),
    channels=st.integers(1, 2),
    causal=st.booleans(),
    batch=st.integers(1, 2),
)
@torch.no_grad()
def test_length_in_is_length_out(length, channels, causal, batch):
    model = small_model(channels, causal, renormalize=not causal)
    x = torch.randn(batch, channels, length)
    result = model(x)
    frames = math.ceil(length / 6)
    assert result.x.shape == x.shape and result.x.isfinite().all()
    codes, scale = model.encode(x)
    assert codes.shape == (batch, 3, frames) and not codes.is_floating_point()
    assert torch.equal(codes, result.codes)
    audio = model.decode(codes, scale)
    assert audio.shape == (batch, channels, frames * 6)
    torch.testing.assert_close(audio[..., :length], result.x)
    torch.testing.assert_close(
        model.decoder(model.decode_latent(codes)),
        audio if scale is None else audio / scale[:, :, None],
    )


@torch.no_grad()
def test_renormalize_is_per_item_and_undone():
    """Loudness changes the scale and nothing else; items don't see each other."""
    model = small_model(2, causal=False, renormalize=True)
    x = torch.randn(2, 2, 60)
    gains = torch.tensor([10.0, 0.01]).view(2, 1, 1)
    codes, scale = model.encode(x)
    loud_codes, loud_scale = model.encode(x * gains)
    assert torch.equal(codes, loud_codes)
    torch.testing.assert_close(loud_scale, scale * gains[:, :, 0])
    torch.testing.assert_close(model(x * gains).x, model(x).x * gains)
    mono = (x[:, 0] + x[:, 1]) / 2
    torch.testing.assert_close(scale[:, 0], (mono**2).mean(1) ** 0.5 + 1e-8)
    # Silence, and stereo that cancels out, stay finite.
    assert model(torch.zeros(1, 2, 60)).x.abs().max() < 1e-6
    assert model.encode(torch.zeros(1, 2, 60))[1].item() == pytest.approx(1e-8)
    wide = torch.randn(1, 1, 60)
    assert model(torch.cat([wide, -wide], 1)).x.isfinite().all()


def test_bandwidth_and_frame_rate():
    """The frame rate is not floored and the bandwidth does not depend on T."""
    model = small_model(sample_rate=1000)
    assert model.frame_rate == pytest.approx(166.6666667)
    for length in (1, 60, 300):
        assert float(model(torch.randn(1, 1, length)).bandwidth) == pytest.approx(2.0)
    assert model.bandwidths == pytest.approx([2 / 3, 4 / 3, 2.0])
    options = dict(n_filters=2, ratios=[8, 5, 4, 2])
    parts = SEANetEncoder(**options), SEANetDecoder(**options)
    rvq = ResidualVectorQuantizer(128, 4, kmeans_init=False)
    assert EncodecModel(*parts, rvq, 44100 / 320, 44100, 1).bandwidth_of(2) == 2.75625
    with pytest.raises(ValueError, match=r"44100 / 320 = 137\.8125.*got 137"):
        EncodecModel(*parts, rvq, 44100 // 320, 44100, 1)


def test_choosing_codebooks():
    model = small_model(sample_rate=1500)  # 1 kb/s a codebook
    assert model.num_codebooks == 3 and model.bandwidth == pytest.approx(3.0)
    x = torch.randn(1, 1, 30)
    full, _ = model.encode(x)
    for n, bandwidth in ((1, 1.0), (2, 2.001), (3, 3)):
        model.set_target_bandwidth(bandwidth)
        assert model.num_codebooks == n and model.bandwidth == pytest.approx(n)
        codes, _ = model.encode(x)
        assert torch.equal(codes, full[:, :n])
        assert model.decode(codes).shape == x.shape
        model.set_num_codebooks(3)
        torch.testing.assert_close(model.decode(full[:, :n]), model.decode(codes))
    for bad in (1.5, 0.0, 4.0, -1.0):
        with pytest.raises(ValueError, match=rf"{bad} kb/s. Choices: 1, 2, 3"):
            model.set_target_bandwidth(bad)
    assert model.num_codebooks == 3
    with pytest.raises(ValueError, match="4"):
        model.set_num_codebooks(4)


@torch.no_grad()
def test_without_quantization_and_under_autocast():
    """The output has the type of the input: the losses' STFTs are to get float32."""
    model = small_model(quantizer=DummyQuantizer(6))
    x = torch.randn(1, 1, 60)
    expected = model(x).x
    torch.testing.assert_close(model.decoder(model.encoder(x)), expected)
    torch.testing.assert_close(model.decode(*model.encode(x)), expected)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x).x
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, expected, atol=0.05 * expected.abs().max().item(), rtol=0.05)


def test_errors():
    model = small_model(2)
    for shape in ((2, 60), (1, 1, 60), (1, 2, 0)):
        for call in (model, model.encode):
            with pytest.raises(ValueError, match=r"C=2 channels.*\[" + str(shape[0])):
                call(torch.randn(shape))
    with pytest.raises(ValueError, match="int16"):
        model(torch.zeros(1, 2, 60, dtype=torch.int16))
    codes, _ = model.encode(torch.randn(3, 2, 60))
    with pytest.raises(ValueError, match="renormalize=False"):
        model.decode(codes, torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"\[3, 1\], got \[2, 1\]"):
        small_model(2, causal=False, renormalize=True).decode(codes, torch.ones(2, 1))
    with pytest.raises(ValueError, match="causal=False"):
        small_model(causal=True, renormalize=True)
    encoder, decoder = model.encoder, model.decoder
    with pytest.raises(ValueError, match="channels.*encoder: 2.*model: 1"):
        EncodecModel(encoder, decoder, model.quantizer, 100, 600, 1)
    with pytest.raises(ValueError, match="dimension.*quantizer: 7"):
        EncodecModel(encoder, decoder, ResidualVectorQuantizer(7), 100, 600, 2)
    with pytest.raises(ValueError, match="hop_length.*encoder: 6, decoder: 320"):
        EncodecModel(encoder, SEANetDecoder(2, 6, 2), model.quantizer, 100, 600, 2)
