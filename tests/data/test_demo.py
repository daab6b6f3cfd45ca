import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from adversarial_trainer import audio
from adversarial_trainer.data import STAGES, AudioMeta, demo, scan, split


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.build(tmp_path_factory.mktemp("x") / "demo", 8, 2.0, progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    first = contents(demo.build(tmp_path / "demo", 2, 0.6, progress=False))
    assert contents(demo.build(tmp_path / "again", 2, 0.6, progress=False)) == first
    other = contents(demo.build(tmp_path / "other", 2, 0.6, seed=1, progress=False))
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "demo", "other"]


def test_sound(corpus: Path) -> None:
    report = scan(corpus, progress=False)
    assert len(report.files) == 8 and not report.skipped
    formats, spectra = set(), []
    for meta in report.files:
        wav, rate = audio.read(meta.path)
        formats.add((rate, wav.shape[0]))
        assert meta.duration == 2.0
        assert -12.1 < 20 * np.log10(wav.abs().max()) < -2.9
        assert -40 < 10 * np.log10(wav.square().mean()) < -10
        assert abs(wav.mean()) < 0.005
        wav = audio.convert(wav, rate, 24_000, 1)
        frames = torch.stft(wav, 1024, window=torch.hann_window(1024), return_complex=True)[0]
        power = frames.abs().square()
        levels = power.sum(0).add(1e-9).log10() * 10
        # Attacks and pauses: the level moves by more than 6 dB, and there is sound above 4 kHz.
        assert levels.quantile(0.95) - levels.quantile(0.05) > 6
        assert 1e-4 < power[171:].sum() / power.sum() < 0.5
        spectra.append(power.mean(1).add(1e-9).log().numpy())
    assert formats == {(24_000, 1), (44_100, 2), (48_000, 1)}
    assert np.corrcoef(np.stack(spectra)).min() < 0.9  # not all alike


def test_music_has_pitch_and_speech_has_pauses(corpus: Path) -> None:
    for kind in ("music", "speech"):
        quiet = []
        for path in (corpus / kind).glob("*.wav"):
            wav, rate = audio.read(path)
            frames = wav[0].unfold(0, rate // 50, rate // 50).square().mean(1)
            quiet.append(float((frames < 1e-3 * frames.max()).float().mean()))
        assert (np.mean(quiet) > 0.15) == (kind == "speech"), (kind, quiet)


def test_default_split_has_both_kinds_in_every_stage() -> None:
    names = [f"/d/{k}/{k}_{i:02d}.wav" for i in range(16) for k in ("music", "speech")]
    shares = {"train": 0.7, "valid": 0.1, "evaluate": 0.1, "generate": 0.1}
    parts = split([AudioMeta(name, 10.0, 24_000) for name in names], "/d", shares)
    for stage in STAGES:
        assert {meta.path.split("/")[2] for meta in parts[stage]} == {"music", "speech"}


def test_what_is_there_stays(corpus: Path, tmp_path: Path) -> None:
    before = contents(corpus)
    assert demo.build(corpus, 8, 2.0) == corpus and contents(corpus) == before
    (tmp_path / "song.wav").write_bytes(b"mine")
    with pytest.raises(ValueError, match="no demo corpus of 2 files"):
        demo.build(tmp_path, 2, 0.6, progress=False)
    assert contents(tmp_path) == {"song.wav": b"mine"}


def test_processes_that_build_at_once(tmp_path: Path) -> None:
    errors = []

    def work() -> None:
        try:
            demo.build(tmp_path / "demo", 2, 0.6, progress=False)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(contents(tmp_path / "demo")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
