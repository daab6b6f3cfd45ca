"""The stages evaluate and generate, and the files that they write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.image import imread
from micro import RATE, make_cfg, make_solver, write_audio
from ranks import run_ranks

from adversarial_trainer.data import AudioMeta, FileDataset
from adversarial_trainer.models.builders import get_model, to_params
from adversarial_trainer.models.streaming import reconstruct_stream
from adversarial_trainer.quantization import BaseQuantizer, QuantizedResult
from adversarial_trainer.tools.evaluate import Results, codebook_counts, evaluate, get_scorer
from solvers.builders import get_counts
from solvers.generation import generate_samples


def evaluated(audio: Path, *overrides: str, quantizer: BaseQuantizer | None = None) -> Results:
    """Evaluate a fresh codec on the files of a folder."""
    torch.manual_seed(0)
    cfg = make_cfg("quantizer.kmeans_init=false", *overrides)
    paths = sorted(audio.glob("*.wav"))
    metas = [AudioMeta(str(path), soundfile.info(path).duration, RATE) for path in paths]
    model = get_model(cfg).eval()
    model.quantizer = quantizer or model.quantizer
    scorer, counts = get_scorer(to_params(cfg.evaluate), RATE), get_counts(cfg, model)["evaluate"]
    return evaluate(model, FileDataset(metas, RATE, 1), scorer, counts, torch.zeros(0))


class Rounding(BaseQuantizer):
    """A quantizer of one's own: each latent channel is a codebook of 4 levels."""

    total_codebooks, cardinality = 8, 4
    num_codebooks = 3

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, frame_rate: float) -> QuantizedResult:
        raise NotImplementedError  # it is evaluated only

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(((x.tanh() + 1) * 1.999).long()[:, : self.num_codebooks])
        return self.seen[-1]

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        x = torch.zeros(codes.shape[0], self.total_codebooks, codes.shape[2])
        x[:, : codes.shape[1]] = codes / 2 - 0.75
        return x


def test_codebook_use_of_another_quantizer(audio: Path) -> None:
    """Equals counts of its codes; and a metric that is switched off is left out."""
    quantizer = Rounding()
    result = evaluated(audio, "evaluate.metrics.stft=false", quantizer=quantizer).flat()
    assert "stft" not in result and "mel" in result
    codes = torch.cat(quantizer.seen, dim=2)[0]
    for book in range(3):
        shares = np.bincount(codes[book].numpy(), minlength=4) / codes.shape[1]
        assert result[f"usage/{book}"] == pytest.approx((shares > 0).mean())
        entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum()
        assert result[f"perplexity/{book}"] == pytest.approx(2**entropy)
    assert result["bandwidth"] == pytest.approx(3 * 2 * 50 / 1000)


def test_models_that_need_whole_signals_are_coded_as_by_encode(tmp_path: Path) -> None:
    """In segments of a second, each with its own volume: a loud second and quiet ones."""
    audio = tmp_path / "audio"
    audio.mkdir()
    wav = np.random.default_rng(0).standard_normal(int(2.6 * RATE)) / 10
    wav[RATE:] /= 100
    soundfile.write(audio / "a.wav", wav, RATE, subtype="FLOAT")
    overrides = ("model.causal=false", "model.renormalize=true")
    found = evaluated(audio, *overrides)
    torch.manual_seed(0)
    model = get_model(make_cfg("quantizer.kmeans_init=false", *overrides)).eval()
    real = torch.from_numpy(wav).float()[None]
    fake = torch.cat(list(reconstruct_stream(model, [real], RATE)), -1)
    (row,) = found.files[0]["rows"]
    for name in ("mel", "stft", "sisnr"):
        value = get_scorer({"metrics": {name: True}}, RATE).metrics[name](fake[None], real[None])
        assert row[name] == pytest.approx(value.item(), rel=1e-4), name
    samples = generate_samples(
        model, FileDataset([AudioMeta(str(audio / "a.wav"), 2.6, RATE)], RATE, 1),
        tmp_path / "samples", [2], torch.zeros(0),
    )  # fmt: skip
    assert torch.allclose(samples[0].waves["0.40kbps"], fake, atol=1e-6)


def test_other_bandwidths(audio: Path) -> None:
    """They do not change the highest one's numbers; evaluation.json holds them all."""
    plain = evaluated(audio).flat()
    results = evaluated(audio, "evaluate.bandwidths=[1]")
    flat = results.flat()
    assert flat.keys() - plain.keys() == {f"{m}/0.20kbps" for m in ("sisnr", "mel", "stft")}
    assert {key: flat[key] for key in plain} == plain
    assert flat["mel/0.20kbps"] != flat["mel"]
    again = Results.from_json(json.loads(json.dumps(results.to_json({}, ""))))
    assert again == results and again.flat() == flat


def test_files_that_break_after_the_scan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are named and left out; the history is JSON, which has no NaN, also with none left."""
    audio, other = (write_audio(tmp_path / name, 3) for name in ("audio", "other"))
    overrides = ("evaluate.every=1", "optim.epochs=2", f"dset.stages.evaluate={other}")
    solver = make_solver(tmp_path, audio, *overrides, "evaluate.at_start=true")
    broken, *others = [Path(meta.path) for meta in solver.data.evaluate.metas]
    broken.write_bytes(b"no audio")
    solver.start()
    assert str(broken) in caplog.text and solver.history_so_far[0]["start"]["mel"] > 0
    solver._start_epoch()
    for path in others:
        path.write_bytes(b"")
    last = solver.run()
    assert "mel" not in last["evaluate"] and "bandwidth" in last["evaluate"]

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = (solver.folder / "history.json").read_text()
    assert json.loads(text, parse_constant=refuse) == solver.history


def test_files_of_an_evaluation(tmp_path: Path) -> None:
    """One folder for each epoch; training goes on where they cannot be written."""
    run = tmp_path / "xps" / "run"
    (run / "evaluation").mkdir(parents=True)
    (run / "evaluation" / "1").write_text("in the way of a folder")
    overrides = ("evaluate.every=1", "evaluate.at_start=true")
    solver = make_solver(tmp_path, write_audio(tmp_path / "audio"), *overrides)
    assert solver.run()["evaluate"]["mel"] > 0
    names = {"evaluation.json", "evaluation.csv", "rate_distortion.png"}
    for epoch in (0, 2):
        folder = run / "evaluation" / str(epoch)
        assert {path.name for path in folder.iterdir()} == names
        model = json.loads((folder / "evaluation.json").read_text())["model"]
        assert (model["epoch"], model["signature"]) == (epoch, "run")


def on_rank(rank: int, audio: str) -> tuple[dict[str, float], list[str]]:
    """Evaluate files that ranks share; return metrics and names of files."""
    results = evaluated(Path(audio), "evaluate.bandwidths=all")
    return results.flat(), [file["name"] for file in results.files]


def test_ranks_have_one_result(tmp_path: Path) -> None:
    """Equal to that of a single process, with all files in their order."""
    audio = str(write_audio(tmp_path / "audio", 5))
    alone = on_rank(0, audio)
    assert alone[1] == [f"{n}.wav" for n in range(5)]
    for found in run_ranks(on_rank, audio):
        assert found[1] == alone[1] and found[0] == pytest.approx(alone[0], rel=1e-6)


def test_samples_of_each_bandwidth(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", 3)
    (audio / "1.wav").write_bytes(b"broken")
    metas = [AudioMeta(str(path), 1.0, RATE) for path in sorted(audio.glob("*.wav"))]
    # 0.5 s at the codec's rate, which differs from the files'; no whole number of frames.
    files = FileDataset(metas, 12345, 1, max_duration=0.5)
    model = get_model(make_cfg("quantizer.kmeans_init=false", "sample_rate=12345")).eval()
    folder = tmp_path / "samples" / "3"
    samples = generate_samples(model, files, folder, [1, 2], torch.zeros(0))
    rates = [f"{n * 4 * 12345 / 320 / 1000:.2f}kbps" for n in (1, 2)]
    assert [sample.name for sample in samples] == ["00_0", "02_2"]
    for sample in samples:
        assert list(sample.waves) == ["original", *rates]
        for title, wave in sample.waves.items():
            info = soundfile.info(folder / f"{sample.name}_{title}.wav")
            assert (info.samplerate, info.channels, info.frames) == (12345, 1, 6172)
            assert wave.shape == (1, 6172)
        picture = imread(folder / f"{sample.name}_spectrograms.png")
        assert picture.shape[:2] == sample.picture.shape[1:]
        read, _ = soundfile.read(folder / f"{sample.name}_original.wav", dtype="float32")
        assert torch.allclose(torch.from_numpy(read), sample.waves["original"][0], atol=1e-4)
        assert not torch.equal(sample.waves[rates[0]], sample.waves[rates[1]])
    assert len(list(folder.iterdir())) == 2 * 4


def test_which_bandwidths() -> None:
    dropout = get_model(make_cfg("quantizer.n_q=8", "quantizer.dropout_choices=[2,4]"))
    assert codebook_counts(dropout, "all") == [2, 4, 8]
    assert codebook_counts(dropout, [8, 3, 3]) == [3, 8]
    plain = get_model(make_cfg("quantizer.n_q=8", "quantizer.q_dropout=0"))
    assert codebook_counts(plain, "all") == [8]
    for wrong in ([9], [1, 9], []):
        with pytest.raises(ValueError, match="generate.bandwidths="):
            codebook_counts(plain, wrong)
