import threading
from pathlib import Path

import numpy as np
import torch

from adversarial_trainer import audio
from adversarial_trainer.data import demo, scan


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_same_arguments_same_bytes_and_what_is_there_stays(tmp_path: Path) -> None:
    """Also by processes that build at once."""
    threads = [
        threading.Thread(target=demo.build, args=(tmp_path / "demo", 2, 0.6), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    first = contents(tmp_path / "demo")
    np.random.seed(5)
    assert contents(demo.build(tmp_path / "again", 2, 0.6, progress=False)) == first
    other = contents(demo.build(tmp_path / "other", 2, 0.6, seed=1, progress=False))
    assert other.keys() == first.keys() and all(other[name] != first[name] for name in first)
    assert contents(demo.build(tmp_path / "demo", 2, 0.6, seed=1)) == first


def test_sound(tmp_path: Path) -> None:
    report = scan(demo.build(tmp_path / "demo", 8, 2.0, progress=False), progress=False)
    assert len(report.files) == 8 and not report.skipped
    formats = set()
    for meta in report.files:
        wav, rate = audio.read(meta.path)
        formats.add((rate, wav.shape[0]))
        assert meta.duration == 2.0
        assert -12.1 < 20 * np.log10(wav.abs().max()) < -2.9
        assert -40 < 10 * np.log10(wav.square().mean()) < -10
        assert abs(wav.mean()) < 0.005
        wav = audio.convert(wav, rate, 24_000, 1)
        power = torch.stft(wav, 1024, window=torch.hann_window(1024), return_complex=True)[0]
        power = power.abs().square()
        # Attacks and pauses: the level moves by more than 6 dB, and there is sound above 4 kHz.
        levels = power.sum(0).add(1e-9).log10() * 10
        assert levels.quantile(0.95) - levels.quantile(0.05) > 6
        assert 1e-4 < power[171:].sum() / power.sum() < 0.5
    assert formats == {(24_000, 1), (44_100, 2), (48_000, 1)}
