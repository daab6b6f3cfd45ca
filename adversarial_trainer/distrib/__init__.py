"""What makes N processes compute what one with the whole batch would.

Convention: the loss of rank r is the mean over its own B_r items. With B = sum_r B_r, the gradient
of the mean over the whole batch is then sum_r (B_r / B) g_r.
"""

from .collectives import (
    RankError,
    all_reduce,
    any_true,
    barrier,
    broadcast,
    broadcast_module,
    broadcast_object,
    gather_objects,
    gather_rows,
    is_distributed,
    is_rank_zero,
    rank,
    require_same,
    shared_generator,
    world_size,
)
from .gradients import GradientSync

__all__ = [
    "GradientSync",
    "RankError",
    "all_reduce",
    "any_true",
    "barrier",
    "broadcast",
    "broadcast_module",
    "broadcast_object",
    "gather_objects",
    "gather_rows",
    "is_distributed",
    "is_rank_zero",
    "rank",
    "require_same",
    "shared_generator",
    "world_size",
]
