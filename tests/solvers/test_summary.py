from __future__ import annotations

import logging

import pytest
import torch
from micro import make_cfg

from adversarial_trainer.models.builders import get_model
from solvers.builders import get_adversarial, get_weights
from solvers.summary import LineFormatter, Progress, describe, discriminator_table


def test_a_line_shows_the_metrics_asked_for_in_that_order() -> None:
    formatter = LineFormatter(["adv", "l1"], [])
    metrics = {"l1": 0.123456, "other": 1.0, "bad_steps": 2.0, "adv": 1.0, "grad_norm": 184.3}
    wanted = {"adv": "1.000", "l1": "0.123", "grad_norm": "184", "bad_steps": "2"}
    assert formatter(metrics) == wanted
    assert list(formatter(metrics)) == list(wanted)


def test_progress_has_a_line_every_so_many_updates(caplog: pytest.LogCaptureFixture) -> None:
    """But not after the last, where the summary follows."""
    for every, lines in ((1, [1, 2, 3, 4, 5, 6]), (3, [3, 6]), (7, [])):
        caplog.clear()
        logger = logging.getLogger("test")
        progress = Progress(logger, "Train | Epoch 3", 7, every, LineFormatter(["l1"], []))
        with caplog.at_level(logging.INFO):
            for _ in range(7):
                if progress.step():
                    progress.log({"l1": 0.5})
        told = [record.message.split(" | ") for record in caplog.records]
        assert [parts[2] for parts in told] == [f"{n}/7" for n in lines]
        assert all(parts[:2] == ["Train", "Epoch 3"] and parts[-1] == "l1 0.500" for parts in told)


def test_tables_are_aligned() -> None:
    metrics = {"d_real": 0.5, "d_acc": 0.5}
    for name, accuracy in (("fft256", 0.75), ("period2", 1.0)):
        metrics |= {f"d_real/{name}": 1, f"d_fake/{name}": -0.5, f"d_acc/{name}": accuracy}
    lines = discriminator_table(metrics)
    assert [line.split() for line in lines[1:]] == [
        ["fft256", "+1.00", "-0.50", "75%"],
        ["period2", "+1.00", "-0.50", "100%"],
    ]
    assert len({len(line) for line in lines}) == 1
    assert discriminator_table({"l1": 1.0}) == []


def test_description_of_a_configuration() -> None:
    """Parameters counted from the modules, bandwidths by their formula."""
    cfg = make_cfg("adversarial=msstftd_mpd", "losses.l2=0", "losses.l1=0.1")
    model = get_model(cfg)
    adversarial = get_adversarial(cfg, torch.device("cpu"), torch.Generator())
    text = describe(cfg, model, adversarial, get_weights(cfg.losses))
    count = sum(p.numel() for p in model.parameters())
    assert f"Generator: {count / 1e6:.2f} M parameters" in text
    rates = [n * 4 * 50 / 1000 for n in (1, 2)]  # 16 codes: 4 bits
    assert f"2 codebooks of 16: {rates[0]:g}, {rates[1]:g} kb/s" in text
    assert "fft256" in text and "period2" in text and "hinge2" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["l2", "0"] in lines and ["l1", "0.1"] in lines
    assert not any(line[:1] == ["sisnr"] for line in lines)
    assert "Discriminators: none" in describe(cfg, model, None, {})
