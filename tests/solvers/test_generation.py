from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
from matplotlib.image import imread
from micro import RATE, make_cfg, write_audio

from adversarial_trainer.data import AudioMeta, FileDataset
from adversarial_trainer.models.builders import get_model
from adversarial_trainer.tools.evaluate import codebook_counts
from solvers.generation import generate_samples


def test_each_bandwidth_of_each_file(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "audio", 3)
    (audio / "1.wav").write_bytes(b"broken")
    metas = [AudioMeta(str(path), 1.0, RATE) for path in sorted(audio.glob("*.wav"))]
    # 0.5 s at the codec's rate, which differs from the files'; no whole number of frames.
    files = FileDataset(metas, 12345, 1, max_duration=0.5)
    cfg = make_cfg("quantizer.kmeans_init=false", "sample_rate=12345")
    model = get_model(cfg).eval()
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
    for wrong in ([0], [9], [1, 2.5], ["a"], [], "some"):
        with pytest.raises(ValueError, match="generate.bandwidths="):
            codebook_counts(plain, wrong)
