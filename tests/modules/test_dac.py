"""DAC's encoder and decoder, against transformers, and BigCodec's and stable-audio's options."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from micro import configured
from scipy.signal import upfirdn
from scipy.signal.windows import kaiser
from torch import nn
from transformers import DacConfig, DacModel

from adversarial_trainer.models.builders import get_model
from adversarial_trainer.models.encodec import EncodecModel, initialise_from_data
from adversarial_trainer.modules.activation import AntiAliased, Snake, SnakeBeta, get_activation
from adversarial_trainer.modules.dac import DACDecoder, DACEncoder
from adversarial_trainer.modules.norm import fold_weight_norm
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder
from adversarial_trainer.quantization import DummyQuantizer
from adversarial_trainer.quantization.dac import DACQuantizer

SMALL = dict(dimension=6, n_filters=2, strides=[3, 2])  # hop length 6
BIGCODEC = dict(activation="AntiAliased", activation_params={"activation": "SnakeBeta"}, lstm=2)
VAE = dict(activation="SnakeBeta", multipliers=[1, 2])


def pair(**options) -> tuple[DACEncoder, DACDecoder]:
    return DACEncoder(**{**SMALL, **options}), DACDecoder(**{**SMALL, **options})


def randomise(theirs: DacModel) -> None:
    """Weights that keep signals at about their level, so that no tanh saturates."""
    for p in theirs.parameters():
        if p.dim() == 1:
            nn.init.normal_(p, 0, 0.1)
        elif p.shape[0] == 1 and p.shape[-1] == 1:  # of a Snake
            nn.init.uniform_(p, 0.5, 2)
        else:
            nn.init.normal_(p, 0, 0.6 * p[0].numel() ** -0.5)


@pytest.mark.parametrize("strides", [[2, 4, 8], [2, 4, 5, 8], [3, 5]])
def test_equal_to_transformers(strides: list[int]) -> None:
    """Latents, audio and the gradients of the audio; its decoder loses samples at odd strides."""
    torch.manual_seed(0)
    config = DacConfig(
        encoder_hidden_size=4,
        downsampling_ratios=strides,
        decoder_hidden_size=6 * 2 ** len(strides),
        n_codebooks=1,
        codebook_size=4,
    )
    theirs = DacModel(config).double()
    options = dict(dimension=config.hidden_size, strides=strides, norm="none")
    encoder = DACEncoder(n_filters=4, **options).double()
    decoder = DACDecoder(n_filters=6, output_padding=False, **options).double()
    randomise(theirs)
    for ours, model in ((encoder, theirs.encoder), (decoder, theirs.decoder)):
        for one, other in zip(ours.parameters(), model.parameters(), strict=True):
            one.data.copy_(other.data)
    x = torch.randn(2, 1, 20 * math.prod(strides), dtype=torch.float64, requires_grad=True)
    z, expected = encoder(x), theirs.encoder(x)
    torch.testing.assert_close(z, expected, atol=1e-9, rtol=1e-9)
    y, full = theirs.decoder(expected), decoder(z)
    lost = {(2, 4, 8): 0, (2, 4, 5, 8): 8, (3, 5): 4}[tuple(strides)]
    assert full.shape == x.shape and y.shape[-1] == x.shape[-1] - lost
    assert not full[..., y.shape[-1] :].any()
    torch.testing.assert_close(full[..., : y.shape[-1]], y, atol=1e-9, rtol=1e-9)
    assert y.std() > 0.01 and y.abs().max() < 0.999
    weight = torch.randn_like(y)
    (theirs_grad,) = torch.autograd.grad((y * weight).sum(), x)
    (ours_grad,) = torch.autograd.grad((full[..., : y.shape[-1]] * weight).sum(), x)
    assert theirs_grad.norm() > 1e-3
    torch.testing.assert_close(ours_grad, theirs_grad, atol=1e-9, rtol=1e-9)
    # With the sample that theirs lacks only the end differs: where its value reaches.
    whole = DACDecoder(n_filters=6, **options).double()
    whole.load_state_dict(decoder.state_dict())
    same = y.shape[-1] - 60 * lost
    torch.testing.assert_close(whole(z)[..., :same], y[..., :same], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("strides", [[2, 4], [2, 5]])
def test_whole_codec_equal_to_transformers(strides: list[int]) -> None:
    """Codes, audio of codes, the reconstruction and its gradient at the input; with weight norm."""
    torch.manual_seed(1)
    config = DacConfig(
        encoder_hidden_size=4,
        downsampling_ratios=strides,
        decoder_hidden_size=24,
        n_codebooks=4,
        codebook_size=32,
        codebook_dim=3,
        sampling_rate=1000,
    )
    theirs = DacModel(config).double().eval()
    randomise(theirs)
    theirs.apply_weight_norm()
    options = dict(dimension=config.hidden_size, strides=strides)
    hop = math.prod(strides)
    model = EncodecModel(
        DACEncoder(n_filters=4, **options),
        DACDecoder(n_filters=6, output_padding=False, **options),
        DACQuantizer(config.hidden_size, n_q=4, bins=32, codebook_dim=3),
        frame_rate=1000 / hop,
        sample_rate=1000,
        channels=1,
    )
    model = model.double().eval()
    for part in ("encoder", "quantizer", "decoder"):
        pairs = zip(
            getattr(model, part).parameters(), getattr(theirs, part).parameters(), strict=True
        )
        for ours, other in pairs:
            assert ours.shape == other.shape
            ours.data.copy_(other.data)
    x = torch.randn(2, 1, 40 * hop, dtype=torch.float64, requires_grad=True)
    expected, found = theirs(x), model(x)
    assert len(expected.audio_codes.unique()) > 16
    assert torch.equal(found.codes, expected.audio_codes)
    assert torch.equal(model.encode(x)[0], expected.audio_codes)
    y = expected.audio_values[:, None]
    length = y.shape[-1]
    assert 0 <= x.shape[-1] - length <= 2 and found.x.shape == x.shape
    tolerance = dict(atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(found.x[..., :length], y, **tolerance)
    codes = expected.audio_codes[:, :3]
    decoded = theirs.decode(audio_codes=codes).audio_values[:, None]
    torch.testing.assert_close(model.decode(codes)[..., :length], decoded, **tolerance)
    assert y.std() > 0.01 and y.abs().max() < 0.999
    weight = torch.randn_like(y)
    (theirs_grad,) = torch.autograd.grad((y * weight).sum(), x)
    (ours_grad,) = torch.autograd.grad((found.x[..., :length] * weight).sum(), x)
    assert theirs_grad.norm() > 1e-3
    torch.testing.assert_close(ours_grad, theirs_grad, **tolerance)


@pytest.mark.parametrize("options", [{}, BIGCODEC, {**VAE, "final_bias": False}])
@torch.no_grad()
def test_start_from_data(options: dict) -> None:
    """Latents of mean 0 and variance 1, audio at the level of the input."""
    torch.manual_seed(0)
    options = {"n_filters": 8, **options}
    final_bias = options.pop("final_bias", True)
    encoder = DACEncoder(**{**SMALL, **options})
    decoder = DACDecoder(**{**SMALL, **options}, final_bias=final_bias)
    model = EncodecModel(encoder, decoder, DummyQuantizer(6), 100, 600, 1)
    x = 0.1 * torch.randn(4, 1, 1200).cumsum(-1).sin()
    initialise_from_data(model, x)
    z = encoder(x)
    assert z.mean((0, 2)).abs().max() < 1e-3 and (z.std((0, 2)) - 1).abs().max() < 1e-2
    assert 0.8 < decoder(z).std() / x.std() < 1.2


# Folded, and with weight norm.
PARAMETERS = {
    "model=dac quantizer=dac": (76_620_777, 76_651_890),
    "model=dac_24khz quantizer=dac_24khz": (74_653_857, 74_708_706),
    "model=dac_16khz quantizer=dac_16khz": (74_141_697, 74_175_906),
    "model=dac_44khz_16kbps quantizer=dac quantizer.n_q=18": (64_189_873, 64_213_250),
    "model=bigcodec quantizer=dac_single": (159_408_841, 159_436_290),
    "model=vae quantizer=vae channels=2": (156_077_696, 156_112_514),
}


@pytest.mark.parametrize("choices", PARAMETERS)
def test_parameters_as_published(choices: str) -> None:
    """Of DAC and stable-audio; of BigCodec the published code, 159.4 million."""
    cfg = configured("solver=tiny", *choices.split())
    with torch.device("meta"):
        model = get_model(cfg)
        found = sum(p.numel() for p in model.parameters())
        folded = sum(p.numel() for p in fold_weight_norm(model).parameters())
    assert (folded, found) == PARAMETERS[choices]


def test_weights_start_as_those_of_torch_and_biases_at_zero() -> None:
    """DAC's truncated normal does not reach the parameters of weight norm."""
    torch.manual_seed(0)
    for module in pair(n_filters=8):
        convs = [m for m in module.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
        for conv in convs:
            fan_in = conv.weight[0].numel()  # as torch counts it for transposed ones, too
            assert 0.9 / math.sqrt(fan_in) < conv.weight.abs().max() <= 1 / math.sqrt(fan_in) + 1e-6
            assert isinstance(conv.bias, torch.Tensor)
            assert conv.bias.any() == isinstance(conv, nn.ConvTranspose1d)
    assert any(isinstance(conv, nn.ConvTranspose1d) for conv in convs)


@pytest.mark.parametrize("options", [{}, BIGCODEC, VAE, dict(causal=True, lstm=1)])
def test_lengths_and_gradients(options: dict) -> None:
    encoder, decoder = pair(channels=2, **options)
    for length in (1, 6, 41):
        x = torch.randn(2, 2, length)
        z = encoder(x)
        assert z.shape == (2, 6, math.ceil(length / 6))
        # Padded to whole frames with zeros, as DAC does it.
        torch.testing.assert_close(encoder(nn.functional.pad(x, (0, -length % 6))), z)
        y = decoder(z)
        assert y.shape == (2, 2, z.shape[-1] * 6) and y.abs().max() <= 1
    y.square().sum().backward()
    for module in (encoder, decoder):
        for name, p in module.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


@pytest.mark.parametrize("options", [dict(lstm=1), dict(activation="SnakeBeta", norm="none")])
def test_causal(options: dict) -> None:
    """Changing the future changes neither the frames nor the samples before it."""
    encoder, decoder = pair(causal=True, channels=2, n_filters=4, **options)
    x = torch.randn(1, 2, 60)
    for start in (1, 6, 23, 59):
        changed = x.clone()
        changed[..., start:] = torch.randn(2, 60 - start)
        before = start // 6  # frames whose last sample comes before `start`
        a, b = encoder(x), encoder(changed)
        torch.testing.assert_close(a[..., :before], b[..., :before])
        assert not torch.allclose(a[..., before:], b[..., before:])
        a, b = decoder(a), decoder(b)
        torch.testing.assert_close(a[..., : 6 * before], b[..., : 6 * before])


def test_options_of_the_decoder() -> None:
    decoder = DACDecoder(**SMALL, final_activation=None, final_bias=False)
    last = decoder.model[-1].conv.conv
    assert last.bias is None and last.out_channels == 1
    assert (1e3 * decoder(torch.randn(1, 6, 5))).abs().max() > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(strides=[]), r"strides must be .*\[\]"),
        (dict(strides=[2, 0]), r"strides.*\[2, 0\]"),
        (dict(multipliers=[2]), r"multipliers must be a list of 2 integers.*\[2\]"),
        (dict(multipliers=[2, 0]), r"multipliers.*\[2, 0\]"),
        (dict(dilations=[1, 0]), r"dilations .* integers >= 1, got \[1, 0\]"),
        (dict(n_filters=0), "n_filters"),
        (dict(activation="snake"), "'snake'.*AntiAliased, Snake, SnakeBeta"),
        (dict(activation_params={"beta": 1}), "Snake.*beta"),
        (dict(causal=True, activation="AntiAliased"), "AntiAliased.*ahead.*causal=False"),
        (dict(norm="time_group_norm", causal=True), "time_group_norm"),
    ],
)
def test_errors(options: dict, message: str) -> None:
    for cls in (DACEncoder, DACDecoder):
        with pytest.raises(ValueError, match=message):
            cls(**{**SMALL, **options})


def test_output_padding_is_for_symmetric_padding() -> None:
    with pytest.raises(ValueError, match="output_padding=False needs causal=False"):
        DACDecoder(**SMALL, causal=True, output_padding=False)


# -- activations


def test_snake_is_its_formula() -> None:
    x = torch.randn(2, 3, 10, dtype=torch.float64)
    a, b = torch.rand(2, 3, dtype=torch.float64) + 0.5
    snake, beta = Snake(3).double(), SnakeBeta(3).double()
    for module in (snake, beta):
        torch.testing.assert_close(module(x), x + x.sin() ** 2)  # all parameters at 1
    snake.alpha.data.copy_(a[None, :, None])
    beta.alpha.data.copy_(a.log())
    beta.beta.data.copy_(b.log())
    for c in range(3):
        sine = (a[c] * x[:, c]).sin() ** 2
        torch.testing.assert_close(snake(x)[:, c], x[:, c] + sine / a[c])
        torch.testing.assert_close(beta(x)[:, c], x[:, c] + sine / b[c])


@pytest.mark.parametrize("name", ["Snake", "SnakeBeta"])
def test_snake_is_float32_under_autocast(name: str) -> None:
    """Its argument may be large: bfloat16 knows sin(100) not even by sign."""
    snake = get_activation(name, channels=4)
    x = (100 * torch.randn(2, 4, 50)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = snake(x)
    torch.testing.assert_close(y, snake(x.float()), rtol=0, atol=0)


def test_anti_aliased_resamples_as_scipy() -> None:
    """A Kaiser window of 51 dB, 12 taps; edges repeated."""
    half_width = 0.3  # of the doubled rate
    attenuation = 2.285 * 5 * math.pi * 4 * half_width + 7.95
    time = np.arange(12) - 5.5
    taps = kaiser(12, 0.1102 * (attenuation - 8.7)) * np.sinc(time / 2)
    taps /= taps.sum()
    x = np.random.default_rng(0).standard_normal(40)
    up = upfirdn(2 * taps, np.pad(x, 20, "edge"), up=2)[40 + 5 : -40 - 5][:80]
    sine = np.sin(up) ** 2 + up
    down = upfirdn(taps, np.pad(sine, 20, "edge"), down=1)[20 + 6 :][:80:2]
    module = AntiAliased(1, "Snake").double()
    found = module(torch.from_numpy(x)[None, None]).detach().numpy()[0, 0]
    np.testing.assert_allclose(found, down, atol=1e-6)


@torch.no_grad()
def test_anti_aliased_weakens_what_folds_back() -> None:
    """A tone at .3 of the rate: its second harmonic, .6, appears at .4; by 10 dB less."""
    x = torch.sin(2 * math.pi * 0.3 * torch.arange(1000))[None, None]
    levels = []
    for module in (Snake(1), AntiAliased(1, "Snake")):
        spectrum = torch.fft.rfft(module(x)[0, 0] * torch.hann_window(1000)).abs()
        levels.append(float(spectrum[400] / spectrum[300]))
    assert levels[0] > 0.1 and levels[1] < 0.32 * levels[0]


def test_seanet_takes_them_too() -> None:
    options = dict(dimension=6, n_filters=2, ratios=[3, 2], activation="Snake")
    encoder, decoder = SEANetEncoder(**options), SEANetDecoder(**options)
    assert sum(isinstance(m, Snake) for m in encoder.modules()) == 2 * 3 * 2 + 2 + 1
    assert decoder(encoder(torch.randn(1, 1, 60))).shape == (1, 1, 60)
    with pytest.raises(ValueError, match="AntiAliased.*ahead"):
        SEANetEncoder(**{**options, "activation": "AntiAliased"}, causal=True)
