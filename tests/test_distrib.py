"""Two ranks compute the same as one process with the whole batch."""

from __future__ import annotations

import pytest
import torch
from ranks import run_ranks
from torch import Tensor, nn

from adversarial_trainer import distrib
from adversarial_trainer.adversarial import FeatureMatchingLoss

SIZES = [3, 5]


class Net(nn.Module):
    """Weights of two dtypes, one used on rank 1 alone, one used nowhere, one frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
        self.single = nn.Parameter(torch.randn(2, dtype=torch.float32))
        self.on_rank_1 = nn.Parameter(torch.randn(3, dtype=torch.float64))
        self.nowhere = nn.Parameter(torch.randn(3, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)

    def loss(self, x: Tensor, per_item: Tensor) -> Tensor:
        """Mean over items `x`; those with `per_item` 1 use `on_rank_1` too."""
        loss = (self.main(x) * self.single.double()).square().sum(1)
        if per_item.any():
            loss = loss + per_item * (self.on_rank_1**3).sum()
        return loss.mean()


def gradients(rank: int | None) -> dict[str, Tensor | None]:
    torch.manual_seed(0)
    net = Net()
    x = torch.randn(sum(SIZES), 4, dtype=torch.float64)
    per_item = torch.tensor([0.0] * SIZES[0] + [1.0] * SIZES[1], dtype=torch.float64)
    if rank is not None:
        x, per_item = x.split(SIZES)[rank], per_item.split(SIZES)[rank]
    net.loss(x, per_item).backward()
    if rank == 0:
        assert net.on_rank_1.grad is None
    distrib.average_gradients(net.parameters(), len(x))
    return {name: p.grad for name, p in net.named_parameters()}


def relative_loss(rank: int | None) -> Tensor:
    """Relative feature matching, whose magnitudes are of all ranks' items; summed over items."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, sum(SIZES), 4, dtype=torch.float64, generator=generator)
    fake, real = maps if rank is None else maps.split(SIZES, 1)[rank]
    return len(fake) * FeatureMatchingLoss(relative=True)([fake], [real])


def mismatch(rank: int) -> str:
    """Return the error of ranks whose models differ in size."""
    with pytest.raises(distrib.RankError) as caught:
        distrib.broadcast_module(nn.Linear(3, 2 + (rank == 2)))
    return str(caught.value)


def buffers(rank: int) -> nn.Module:
    torch.manual_seed(rank)
    net = nn.Sequential(nn.Conv1d(2, 3, 5), nn.BatchNorm1d(3))
    net[0].weight.data = torch.randn(3, 5, 2).transpose(1, 2)  # not contiguous
    net[1].num_batches_tracked.fill_(7 + rank)
    net.register_buffer("wide", torch.randn(3, dtype=torch.float64))
    net.register_buffer("flag", torch.tensor(rank == 0))
    net.register_buffer("brain", torch.randn(2).bfloat16())
    net.register_buffer("hidden", torch.randn(4), persistent=False)
    net.register_buffer("empty", torch.zeros(0))
    return net


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def worker(rank: int) -> dict:
    net = buffers(rank)
    pointers = {name: p.data_ptr() for name, p in net.named_parameters()}
    distrib.broadcast_module(net)
    assert pointers == {name: p.data_ptr() for name, p in net.named_parameters()}
    assert net[0].weight.requires_grad and net[0].weight.is_leaf
    rows = torch.arange(6.0).view(3, 2) + 10 * rank
    return {
        "facts": (distrib.rank(), distrib.world_size(), distrib.is_rank_zero()),
        "distributed": distrib.is_distributed(),
        "gradients": gradients(rank),
        "relative": relative_loss(rank),
        "module": named_tensors(net),
        "sum": distrib.all_reduce(torch.tensor([1, rank])),
        "any": distrib.any_true([False, rank == 1, torch.tensor(True)]),
        "rows": distrib.gather_rows(rows[: 1 + 2 * rank]),
        "rows_of_1": distrib.gather_rows(rows[: 3 * rank]),
        "no_rows": distrib.gather_rows(rows[:0]),
        "integer_rows": distrib.gather_rows(torch.full((rank + 1, 1), rank)),
        "drawn": torch.rand(3, generator=distrib.shared_generator(5)),
    }


@pytest.fixture(scope="module")
def outcomes() -> list[dict]:
    return run_ranks(worker)


def test_gradients_of_uneven_batches_are_the_whole_batchs(outcomes: list[dict]) -> None:
    """Weighted by items, also where a rank has no gradient; in float64 and float32."""
    alone = gradients(None)
    first, second = (outcome["gradients"] for outcome in outcomes)
    for name, expected in alone.items():
        if expected is None:
            continue
        assert torch.equal(first[name], second[name]), name
        accuracy = 1e-12 if expected.dtype == torch.float64 else 1e-6
        torch.testing.assert_close(first[name], expected, rtol=accuracy, atol=accuracy)
    assert first["on_rank_1"].abs().max() > 0
    # What has no gradient anywhere keeps none: else Adam would decay it.
    for grads in (alone, first, second):
        assert grads["nowhere"] is None and grads["frozen"] is None
    torch.testing.assert_close(
        sum(outcome["relative"] for outcome in outcomes), relative_loss(None)
    )


def test_models_that_differ_are_named_and_do_not_hang() -> None:
    for told in run_ranks(mismatch, world_size=3):
        assert told.startswith("Linear differs between processes: rank 2 has 12 parameters")
        assert "rank 0 has 8 parameters" in told


def test_broadcast_takes_all_buffers_of_any_dtype(outcomes: list[dict]) -> None:
    """Integer buffers and weights alike; memory and layout stay."""
    expected = named_tensors(buffers(0))
    other = named_tensors(buffers(1))
    for outcome in outcomes:
        assert outcome["module"].keys() == expected.keys()
        for name, tensor in expected.items():
            assert outcome["module"][name].dtype == tensor.dtype
            assert torch.equal(outcome["module"][name], tensor), name
    assert not torch.equal(expected["1.num_batches_tracked"], other["1.num_batches_tracked"])


def test_messages_and_shared_draws(outcomes: list[dict]) -> None:
    for outcome in outcomes:
        assert outcome["rows"].tolist() == [[0, 1], [10, 11], [12, 13], [14, 15]]
        assert outcome["rows_of_1"].tolist() == [[10, 11], [12, 13], [14, 15]]
        assert outcome["no_rows"].shape == (0, 2)
        assert outcome["integer_rows"].tolist() == [[0], [1], [1]]
        assert outcome["sum"].tolist() == [2, 1]
        assert outcome["any"] == [False, True, True] and outcome["distributed"]
        assert torch.equal(outcome["drawn"], outcomes[0]["drawn"])
    assert [outcome["facts"] for outcome in outcomes] == [(0, 2, True), (1, 2, False)]
