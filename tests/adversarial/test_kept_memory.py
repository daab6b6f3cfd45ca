"""What is kept for a backward, and until when: storage, counted."""

import weakref

import pytest
import torch
from adversaries import audio, build, wrap
from torch import nn

from adversarial_trainer.adversarial.discriminators.checks import build_activation
from adversarial_trainer.adversarial.discriminators.leaky_relu import KeptLeakyReLU
from adversarial_trainer.adversarial.generator_terms import GeneratorTerms
from adversarial_trainer.adversarial.l1 import l1_loss


def kept(call):
    """Bytes of all storage that `call` keeps for the backward, each once; and its result."""
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage  # held, so that its place is not given away
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    return sum(storage.nbytes() for storage in storages.values()), result


@pytest.mark.parametrize("name", ["msstftd", "mpd", "msd"])
def test_a_sub_discriminator_keeps_its_feature_maps_once(name):
    """And what the first layer is given; weights are small here."""
    adversary = build(name)
    _, real = audio(length=40000)
    given = []
    for index, sub in enumerate(adversary.discriminators):
        sub.convs[0].register_forward_pre_hook(lambda _, args: given.append(args[0].nbytes))
        size, (_, maps) = kept(lambda i=index: adversary.forward_one(i, real))
        of_maps = sum(each.nbytes for each in maps)
        assert 0.9 * of_maps < size - given[-1] < 1.1 * of_maps


def test_a_distance_keeps_a_byte_an_element():
    fake, real = torch.randn(2, 1, 8, 50, 40)
    size, _ = kept(lambda: l1_loss(fake.requires_grad_(), real))
    assert fake.numel() <= size < fake.numel() + 100


def test_feature_maps_are_gone_before_the_backward(monkeypatch):
    """Those of the original."""
    adversary = build("msstftd")
    adversarial = wrap(adversary)
    adversarial.eager_gradients = True
    original = adversary.forward_one
    maps = []

    def watched(index, x):
        logits, found = original(index, x)
        maps.extend(weakref.ref(each) for each in found if not each.requires_grad)
        return logits, found

    alive = []
    take = GeneratorTerms.take_gradients

    def taken(self, *args):
        alive.append(sum(each() is not None for each in maps))
        take(self, *args)

    monkeypatch.setattr(adversary, "forward_one", watched)
    monkeypatch.setattr(GeneratorTerms, "take_gradients", taken)
    adversarial(*audio())
    assert alive == [0, 0] and len(maps) == 2 * len(adversary.discriminators[0].convs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_leaky_relu_is_torchs(dtype):
    ours, theirs = KeptLeakyReLU(0.2), nn.LeakyReLU(0.2)
    x = torch.tensor([-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0, float("nan"), float("inf")])
    x = x.to(dtype).requires_grad_()
    assert torch.equal(ours(x).nan_to_num(7), theirs(x).nan_to_num(7))
    results = [torch.autograd.grad(layer(x).sum(), x)[0] for layer in (ours, theirs)]
    assert torch.equal(*results)


def test_leaky_relu_can_be_differentiated_twice():
    x = torch.randn(20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(KeptLeakyReLU(0.3), x)
    assert torch.autograd.gradgradcheck(KeptLeakyReLU(0.3), x)


def test_the_sign_must_show_in_the_output():
    for slope in (0.0, -0.5):
        activation = build_activation("LeakyReLU", {"negative_slope": slope})
        x = torch.tensor([-2.0, 3.0], requires_grad=True)
        activation(x).sum().backward()
        assert x.grad.tolist() == [slope, 1]
    assert type(build_activation("LeakyReLU", None)) is KeptLeakyReLU
