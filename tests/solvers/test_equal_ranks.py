"""Training on 1, 2 and 4 processes is the same training, up to the order of sums."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from micro import differences, make_solver, relative_differences, without_durations
from ranks import run_ranks

# All that draws, remembers or decides; 5 items are unequal shares for 2 and for 4 ranks. Rounding
# grows by a factor an update, which is small with this learning rate.
EVERYTHING = [
    *("optim.lr=1e-4", "adversarial.optim.lr=1e-4", "precision=float64"),
    *("model.seanet.n_filters=4", "dataset.batch_size=5", "dataset.valid_samples=9"),
    *("optim.epochs=2", "optim.updates_per_epoch=5", "optim.max_norm=1.0", "optim.ema.decay=0.9"),
    *("schedule=cosine", "schedule.total_updates=30", "adversarial.probability=0.67"),
    "evaluate.every=2",
    *("adversarial=hifigan", "adversarial.discriminators=[msstftd,mpd,msd]"),
    "adversarial.loss=hinge2",
]
QUANTIZERS = {
    "rvq": [
        *("quantizer.q_dropout=0.5", "quantizer.kmeans_init=true", "quantizer.bins=32"),
        *("quantizer.dead_code_threshold=0.3", "quantizer.decay=0.8", "quantizer.bypass=0.5"),
    ],
    "dac": ["quantizer=dac_tiny", "quantizer.q_dropout=0.6"],
    "fsq": ["quantizer=fsq_tiny"],
    "vae": ["quantizer=vae", "quantizer.kl_weight=0.01"],
}


def train(rank: int, folder: str, audio: str, *quantizer: str) -> dict:
    """The state after training, on this rank."""
    torch.manual_seed(rank)
    # Each rank in a folder of its own: all of them return their state.
    solver = make_solver(Path(folder) / str(rank), Path(audio), *EVERYTHING, *quantizer)
    torch.manual_seed(rank)  # nothing may depend on a rank's own randomness
    solver.run()
    state = solver.state_dict()
    del state["config_text"], state["health"]  # rank 0 alone judges
    state["history"] = without_durations(state["history"])
    return state


SLOW = [("rvq", 4), ("dac", 2), ("dac", 4), ("fsq", 2), ("vae", 2)]


@pytest.mark.parametrize(
    ("quantizer", "size"), [("rvq", 2), *(pytest.param(*p, marks=pytest.mark.slow) for p in SLOW)]
)
def test_ranks_equal_one(tmp_path: Path, audio: Path, quantizer: str, size: int) -> None:
    """Weights, codebooks, optimizers, balancer, metrics, in float64."""
    args = (str(audio), *QUANTIZERS[quantizer])
    (alone,) = run_ranks(train, str(tmp_path / "one"), *args, world_size=1, limit=400)
    metrics = [epoch["train"] for epoch in alone["history"]]
    assert alone["updates"] == 10
    assert quantizer != "rvq" or sum(epoch["replaced"] for epoch in metrics) > 0
    assert all(epoch["bad_steps"] == 0 for epoch in metrics)
    assert 2 < alone["adversarial"]["progress"]["num_updates"] < 10
    first, *others = run_ranks(train, str(tmp_path / "several"), *args, world_size=size, limit=400)
    for rank, state in enumerate(others, 1):
        assert differences(state, first) == [], f"rank {rank} of {size}"
    found = relative_differences(first, alone)
    assert {path: value for path, value in found.items() if not value < 1e-9} == {}
