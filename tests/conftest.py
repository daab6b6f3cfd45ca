"""Tests run on one thread each: they are small, and several may run beside one another."""

import torch

torch.set_num_threads(1)
