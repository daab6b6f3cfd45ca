import io

import adversaries
import encodec.msstftd
import pytest
import torch

from adversarial_trainer.adversarial import MultiScaleSTFTDiscriminator

SMALL = {"n_ffts": [64, 32], "hop_lengths": [16, 8], "win_lengths": [64, 32]}


def wrap(adversary, lr=1e-3, **kwargs):
    adv_loss = adversaries.wrap(adversary, **kwargs)
    adv_loss.optimizer = torch.optim.Adam(adversary.parameters(), lr=lr, betas=(0.5, 0.9))
    adv_loss.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(adv_loss.optimizer, 10)
    return adv_loss


def msd():
    return adversaries.build("msd")


def batches(count):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, 2, 1, 300, generator=generator) for _ in range(count)]


def test_resumes_exactly_through_a_safe_file():
    """Weights, buffers, optimizer, learning rate, counters and draws: going on after a load is
    going on without one. The file is readable with weights_only=True."""
    torch.manual_seed(0)
    first = wrap(msd(), probability=0.6, start_step=1)
    for fake, real in batches(6):
        first.train_adv(fake, real)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = wrap(msd(), probability=0.6, start_step=1, generator=torch.Generator().manual_seed(99))
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.num_updates == first.num_updates > 0
    for fake, real in batches(8):
        assert torch.equal(first.train_adv(fake, real), second.train_adv(fake, real))
        assert first.updated == second.updated
    for a, b in zip(first.adversary.parameters(), second.adversary.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.optimizer.param_groups[0]["lr"] == second.optimizer.param_groups[0]["lr"] < 1e-3


def test_goes_on_from_audiocrafts_state():
    """AudioCraft keeps old-style weight norm keys under 'adversary.' and the optimizer's state
    under 'optimizer'. The moments must land on the right parameters: the next step is equal."""
    torch.manual_seed(0)
    theirs = encodec.msstftd.MultiScaleSTFTDiscriminator(2, **SMALL).double()
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-2, betas=(0.5, 0.9))

    def step(fake, real):
        optimizer.zero_grad()
        loss = (
            sum(
                torch.relu(1 + f).mean() + torch.relu(1 - r).mean()
                for f, r in zip(theirs(fake)[0], theirs(real)[0], strict=True)
            )
            / 2
        )
        loss.backward()
        optimizer.step()
        return loss

    data = [batch.double() for batch in batches(5)]
    for fake, real in data[:3]:
        step(fake, real)
    state = {f"adversary.{key}": value for key, value in theirs.state_dict().items()}
    state["optimizer"] = optimizer.state_dict()
    assert any(key.endswith("weight_g") for key in state)

    ours = wrap(MultiScaleSTFTDiscriminator(2, **SMALL).double())
    ours.scheduler = None
    ours.load_state_dict(state)
    assert "optimizer" in state  # the caller's dictionary is left alone
    for fake, real in data[3:]:
        loss, wanted = ours.train_adv(fake, real), step(fake, real)
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-9)
    x = data[0][0]
    for a, b in zip(ours.adversary(x)[0], theirs(x)[0], strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-9)


def test_without_optimizer_state():
    adv_loss = wrap(msd())
    state = adv_loss.state_dict()
    del state["optimizer"]
    with pytest.raises(RuntimeError, match='Missing key.*"optimizer"'):
        adv_loss.load_state_dict(state)
    result = adv_loss.load_state_dict(state, strict=False)
    assert result.missing_keys == ["optimizer"] and result.unexpected_keys == []


def test_nested_in_another_module():
    holder = torch.nn.ModuleDict({"a": wrap(msd()), "b": wrap(msd())})
    state = holder.state_dict()
    assert {"a.optimizer", "b.optimizer", "a.progress"} <= set(state)
    holder.load_state_dict(state)
