"""All that runs on the device, on fake tensors of a device that is not the CPU.

A fake tensor has a shape, a type and a device but no values, and torch refuses to compute with
tensors of two devices. So `torch.zeros(n)` without `device=` in a forward fails here, without a
GPU, as it would with one. Parts are built on the CPU and then moved, as a solver does it.

Two names of devices, for torch's backward asks for a real GPU if it is called "cuda": what has a
backward runs on "meta", where torch has neither autocast nor fused optimizers; the rest on "cuda".

Left out, as shapes or draws depend on values there: k-means and the scaling of layers at a run's
start, the noise of `penalty.sigma`, the count of codes of `CodebookUsage`; and streams of whole
files, as torch cannot split an empty fake tensor. Augmentations run in the loader's processes, slow
metrics on the CPU. Not seen: a 0-dim tensor of the CPU among those of the device, which torch
mostly allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import ROOT, composed, configured, make_cfg, small, solver_of, write_audio
from omegaconf import DictConfig, OmegaConf
from test_recipes import RECIPES, argv_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from adversarial_trainer.adversarial import (
    ADVERSARIAL_LOSSES,
    AdversarialLoss,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)
from adversarial_trainer.adversarial.discriminators import DISCRIMINATORS
from adversarial_trainer.data import Batch
from adversarial_trainer.losses import LOSSES
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.builders import DECODERS, ENCODERS, get_model, get_quantizer
from adversarial_trainer.quantization import QUANTIZERS
from adversarial_trainer.registry import parameter_names
from adversarial_trainer.training.overrides import with_values
from solvers import CompressionSolver, builders
from solvers.starting import initialise

# A file of config/model that has each registered encoder and decoder; others are in recipes.
MODELS = {
    OmegaConf.load(path).get("autoencoder"): path.stem  # type: ignore[union-attr]
    for path in sorted((ROOT / "config" / "model").glob("*.yaml"))
}
# These are in `make test`, all others of config/solver in `make test_integ`.
QUICK = ["tiny", "tiny_dac", "tiny_fsq", "tiny_mdct"]
recipes = pytest.mark.parametrize(
    "recipe",
    [pytest.param(r, marks=[] if r in QUICK else [pytest.mark.slow]) for r in RECIPES],
)


class Answers(TorchDispatchMode):
    """Whoever reads a value, which fake tensors do not have, gets True or 1."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return args[0].dtype is torch.bool or 1
        return func(*args, **(kwargs or {}))


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Inside, all new tensors are fake, and real ones are taken as fake ones of the CPU. Without
    cuDNN, whose LSTM asks for a real GPU."""
    no_cudnn = torch.backends.cudnn.flags(enabled=False)
    with FakeTensorMode(allow_non_fake_inputs=True), Answers(), no_cudnn:
        yield


def devices(tensors: Iterable[Any]) -> set[str]:
    return {x.device.type for x in tensors if isinstance(x, Tensor)}


# -- the test itself


class Wrong(nn.Module):
    """Adds a tensor of the CPU, in its forward or in its backward."""

    def __init__(self, backward: bool) -> None:
        super().__init__()
        self.backward = backward
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.weight
        if not self.backward:
            return x + torch.zeros(3)
        x.register_hook(lambda grad: grad + torch.zeros(3))
        return x


class Forgotten(nn.Module):
    """Has a tensor that is no buffer, and so does not move."""

    def __init__(self) -> None:
        super().__init__()
        self.window = torch.ones(3)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.window


@pytest.mark.parametrize("device", ["cuda", "meta"])
@pytest.mark.parametrize("build", [lambda: Wrong(False), Forgotten])
def test_a_tensor_of_the_cpu_is_noticed(build: Callable[[], nn.Module], device: str) -> None:
    module = build()
    with fake_tensors(), pytest.raises(RuntimeError, match="two different devices"):
        module.to(device)(torch.ones(2, 3, device=device))


def test_one_in_a_backward_is_noticed() -> None:
    module = Wrong(True)
    with fake_tensors():
        y = module.to("meta")(torch.ones(2, 3, device="meta"))
        with pytest.raises(RuntimeError, match="two different devices"):
            y.sum().backward()


# -- all registered classes


def audio(device: str, channels: int = 1, length: int = 4000) -> Tensor:
    return torch.randn(2, channels, length, device=device, requires_grad=device == "meta")


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name: str) -> None:
    cfg = with_values(composed("solver=tiny"), [f"losses.{name}=1", "channels=2"])
    loss = builders.get_losses(cfg)[name]
    with fake_tensors():
        fake = audio("meta", 2)
        loss.to("meta")(fake, audio("meta", 2)).backward()
        assert fake.grad is not None and devices([fake.grad]) == {"meta"}


@pytest.mark.parametrize("name", METRICS)
def test_metric(name: str) -> None:
    cls = METRICS.get_class(name)
    if cls.slow:
        pytest.skip("runs on the CPU")
    rate = {"sample_rate": 16000} if "sample_rate" in parameter_names(cls) else {}
    metric = METRICS.build(name, **rate)
    with fake_tensors():
        values = metric.to("cuda")(audio("cuda", 2), audio("cuda", 2))
        assert devices([values]) == {"cuda"}


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_criterion(name: str) -> None:
    criteria = [get(name) for get in (get_adv_criterion, get_real_criterion, get_fake_criterion)]
    with fake_tensors():
        logits = torch.randn(2, 5, device="cuda")
        assert devices(loss(logits) for loss in criteria if loss is not None) == {"cuda"}


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator(name: str) -> None:
    """The update with its penalty, the generator's losses and their gradients."""
    groups = ["solver=tiny", f"adversarial={name}"]
    settings = ["start_step=0", "probability=1", "penalty.weight=1", "optim.fused=false"]
    cfg = configured(*groups, *small(*groups), *(f"adversarial.{x}" for x in settings))
    adversarial = builders.get_adversarial(cfg, torch.zeros(0), torch.Generator())
    assert adversarial is not None
    with fake_tensors():
        move_adversarial(adversarial, cfg, "meta")
        fake, real = audio("meta"), audio("meta")
        adversarial.train_adv(fake, real)
        assert adversarial.updated
        found = adversarial.gradients(fake, real)
        assert devices([*adversarial.metrics.values(), *found]) == {"meta"}


@pytest.mark.parametrize("autoencoder", sorted(ENCODERS.keys() | DECODERS.keys()))
def test_generator(autoencoder: str) -> None:
    """Encoder and decoder with their backward, without quantizer."""
    groups = ["solver=tiny", f"model={MODELS[autoencoder]}", "quantizer=none"]
    model = get_model(configured(*groups, *small(*groups)))
    with fake_tensors():
        model.to("meta")(audio("meta")).x.sum().backward()
        left = [*model.buffers(), *(p.grad for p in model.parameters())]
        assert devices(left) == {"meta"}


@pytest.mark.parametrize("device", ["cuda", "meta"])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizer(name: str, device: str) -> None:
    """A training forward and what is learnt from it, codes and back, tables."""
    cfg = make_cfg(f"quantizer={name}", *(["quantizer.kmeans_init=false"] * (name == "rvq")))
    quantizer = get_quantizer(cfg.quantizer, 8)
    with fake_tensors():
        quantizer.to(device)
        latents = torch.randn(2, 8, 20, device=device, requires_grad=device == "meta")
        result = quantizer(latents, 100)
        values = [result.x, result.codes, result.bandwidth, result.penalty]
        values += [*result.metrics.values(), *quantizer.update(result).values()]
        assert devices(values) == {device}
        if device == "meta":
            result.x.sum().backward()
        assert devices([*quantizer.buffers(), *quantizer.parameters()]) <= {device}
        quantizer.eval()
        assert devices([quantizer(latents, 100).x]) == {device}
        codes = quantizer.encode(latents)
        assert devices([codes, quantizer.decode(codes)]) == {device}


# -- all recipes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("data") / "audio")


def started(recipe: str, folder: Path, tmp_path: Path, *overrides: str) -> CompressionSolver:
    """The solver of a recipe at micro size on the CPU, after the start of its layers and codebooks.
    Its discriminators learn at each update, beside the generator."""
    often = ["start_step=0", "probability=1", "every=1", "alternate=false"]
    argv = [*(f"adversarial.{x}" for x in often), "optim.ema.decay=0.9", *overrides]
    solver = solver_of(configured(*argv_of(recipe, folder, *argv)), tmp_path)
    initialise(solver)
    solver.data.close()
    return solver


def move_adversarial(adversarial: AdversarialLoss, cfg: DictConfig, device: str) -> None:
    """Move the discriminators, whose parameters are then other objects; a new optimizer of them."""
    adversarial.to(device)
    adversarial.optimizer = builders.get_optimizer(
        adversarial.adversary.parameters(), cfg.adversarial.optim
    )


def move(solver: CompressionSolver, device: str) -> None:
    """Move all that a solver has on its device."""
    solver.like = torch.zeros(0, device=device)
    solver.model.to(device)
    solver.losses.to(device)
    solver.parameters = list(solver.model.parameters())
    solver.optimizer = builders.get_optimizer(solver.parameters, solver.cfg.optim)
    solver.ema = builders.get_ema(solver.model, solver.cfg.optim.ema)
    assert solver.adversarial is not None
    move_adversarial(solver.adversarial, solver.cfg, device)


@recipes
def test_training_step(recipe: str, folder: Path, tmp_path: Path) -> None:
    """`train_step` as a whole: losses and gradients, optimizers, codebooks, averages."""
    plain = ["optim.fused=false", "adversarial.optim.fused=false"]
    solver = started(recipe, folder, tmp_path, *plain)
    solver.model.train()
    assert solver.adversarial is not None and solver.ema is not None
    with fake_tensors():
        move(solver, "meta")
        wav = torch.randn(2, solver.cfg.channels, round(0.15 * solver.cfg.sample_rate))
        metrics = solver.train_step(Batch(wav, []))
        assert metrics.keys() >= {*solver.weights} - {"penalty"}
        assert solver.adversarial.updated
        left = [*solver.model.buffers(), *solver.ema.averages.values(), *metrics.values()]
        for optimizer in (solver.optimizer, solver.adversarial.optimizer):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            left += [*parameters, *(p.grad for p in parameters)]
            left += [state["exp_avg"] for state in optimizer.state.values()]
        assert devices(left) == {"meta"}


@recipes
def test_inference(recipe: str, folder: Path, tmp_path: Path) -> None:
    """Validation, codes and back; fused steps of the optimizers."""
    solver = started(recipe, folder, tmp_path)
    model, adversarial = solver.model, solver.adversarial
    assert adversarial is not None
    with fake_tensors():
        move(solver, "cuda")
        real = torch.randn(2, solver.cfg.channels, solver.cfg.sample_rate // 4, device="cuda")
        with solver.inference():
            fake = model(real).x
            losses = [loss(fake, real) for loss in solver.losses.values()]
            losses += [*adversarial(fake, real), *adversarial.metrics.values()]
            codes, scale = model.encode(real)
            decoded = model.decode(codes, scale)
            assert devices([fake, *losses, codes, decoded]) == {"cuda"}
        for optimizer in (solver.optimizer, adversarial.optimizer):
            for p in (p for group in optimizer.param_groups for p in group["params"]):
                p.grad = torch.zeros_like(p)
            optimizer.step()
