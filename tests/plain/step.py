"""The whole training step, as AudioCraft 1.3's loop has it.

What makes it plain: what stands in the files beside it, put one after the other; the quantizer's
penalty with a backward of its own; torch's default Adam; each metric read back at each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from adversarial_trainer.models.builders import to_params
from solvers import CompressionSolver
from solvers.builders import PENALTY, discriminator_names, get_weights

from .adversarial import PlainAdversarialLoss
from .discriminators import Discriminators, JointDiscriminators
from .generator import Decoder, Encoder
from .losses import Balancer, FeatureMatching, MultiScaleMel
from .quantizer import PlainResidualVQ

BALANCER = ("balance_grads", "total_norm", "ema_decay", "per_batch_item", "epsilon")


class PlainStep:
    """A second set of everything that `solver` trains, with equal weights.

    Args:
        solver: one of the recipes with l1 and msspec, weight norm in a causal generator.
    """

    def __init__(self, solver: CompressionSolver) -> None:
        cfg = solver.cfg
        if cfg.model.renormalize:
            raise ValueError("The plain step has no model.renormalize=true.")
        self.device = solver.like.device
        codec = plain_codec(solver)
        self.encoder, self.decoder, self.quantizer = codec
        self.frame_rate = solver.model.frame_rate
        self.num_codebooks = solver.model.num_codebooks
        self.generator = nn.ModuleList(codec).train()
        self.optimizer = plain_adam(self.generator, cfg.optim)
        self.adversarial = plain_adversarial(cfg, plain_discriminators(solver))
        self.weights = get_weights(cfg.losses)
        balanced = {n: w for n, w in self.weights.items() if n != PENALTY}
        assert balanced.keys() <= {"adv", "feat", "l1", "msspec"}
        msspec = MultiScaleMel(cfg.sample_rate, **to_params(cfg.loss.msspec)).to(solver.like)
        self.losses = {"l1": nn.L1Loss(), "msspec": msspec}
        options = to_params(cfg.balancer)
        self.balancer = Balancer(balanced, **{name: options[name] for name in BALANCER})

    def generate(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and penalty."""
        latent = self.encoder(real)
        quantized, _, penalty = self.quantizer(latent, self.frame_rate, self.num_codebooks)
        return self.decoder(quantized)[..., : real.shape[-1]], penalty

    def generator_losses(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Those that the balancer has a weight for."""
        adv, feat = self.adversarial(fake, real)
        losses = {"adv": adv, "feat": feat}
        losses |= {name: loss(fake, real) for name, loss in self.losses.items()}
        return {name: loss for name, loss in losses.items() if name in self.balancer.weights}

    def train_step(self, wav: Tensor) -> dict[str, float]:
        """One update of discriminators and generator on audio [B, C, T]; the metrics."""
        real = wav.to(self.device)
        fake, penalty = self.generate(real)
        metrics: dict[str, Tensor | float] = {"penalty": penalty}
        metrics["d_loss"] = self.adversarial.train_adv(fake, real)
        losses = self.generator_losses(fake, real)
        metrics.update(losses)
        metrics |= self.backward(losses, fake, penalty)
        self.optimizer.step()
        return {n: v.item() if isinstance(v, Tensor) else v for n, v in metrics.items()}

    def backward(
        self, losses: dict[str, Tensor], fake: Tensor, penalty: Tensor
    ) -> dict[str, Tensor | float]:
        """The generator's gradients; what AudioCraft logs of them."""
        self.optimizer.zero_grad()
        (self.weights.get(PENALTY, 0.0) * penalty).backward(retain_graph=True)
        ratio1 = self.gradient_norm()
        ratios = self.balancer.backward(losses, fake)
        return {"ratio1": ratio1, "ratio2": self.gradient_norm(), **ratios}

    def gradient_norm(self) -> Tensor:
        """Of the generator, parameter by parameter."""
        squares = [p.grad.norm().pow(2) for p in self.generator.parameters() if p.grad is not None]
        return torch.stack(squares).sum().sqrt()


def plain_codec(solver: CompressionSolver) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Encoder, decoder and quantizer with the weights of the solver's."""
    cfg, model = solver.cfg, solver.model
    common = {**to_params(cfg.model.seanet), "channels": cfg.channels, "causal": cfg.model.causal}
    encoder = Encoder({**common, **to_params(cfg.model.encoder)})
    decoder = Decoder({**common, **to_params(cfg.model.decoder)})
    params = to_params(cfg.quantizer)
    sizes = {name: params[name] for name in ("n_q", "bins", "decay")}
    quantizer = PlainResidualVQ(dimension=cfg.model.seanet.dimension, **sizes)
    for module, state in (
        (encoder, model.encoder.state_dict()),
        (decoder, model.decoder.state_dict()),
        (quantizer, model.quantizer.state_dict()),
    ):
        module.to(solver.like).load_state_dict(state)
    return encoder, decoder, quantizer


def plain_discriminators(solver: CompressionSolver) -> nn.Module:
    """The discriminators with the weights of the solver's."""
    cfg = solver.cfg
    assert solver.adversarial is not None
    families: dict[str, nn.Module] = {
        name: Discriminators(name, cfg.channels, to_params(cfg.adversarial[name]))
        for name in discriminator_names(cfg)
    }
    joint = next(iter(families.values())) if len(families) == 1 else JointDiscriminators(families)
    joint.to(solver.like).load_state_dict(solver.adversarial.adversary.state_dict())
    return joint.train()


def plain_adversarial(cfg: DictConfig, adversary: nn.Module) -> PlainAdversarialLoss:
    """The game that `cfg` describes, with `adversary`."""
    adv = cfg.adversarial
    matching = FeatureMatching(**to_params(adv.feature_matching))
    optimizer = plain_adam(adversary, adv.optim)
    return PlainAdversarialLoss(adversary, optimizer, adv.loss, matching, adv.normalize)


def plain_adam(module: nn.Module, node: Any) -> torch.optim.Adam:
    """torch's default way of the configuration's Adam."""
    options: Mapping[str, Any] = to_params(node)
    assert options["name"] == "adam"
    rest = {name: options[name] for name in ("lr", "eps", "weight_decay")}
    return torch.optim.Adam(module.parameters(), betas=tuple(options["betas"]), **rest)
