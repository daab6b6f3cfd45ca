"""Two processes with unequal shares of a batch equal one process with the whole of it."""
import os
import subprocess
import sys
from pathlib import Path

import torch

SCENARIO = '''
import sys
import torch
from adversarial_trainer.adversarial import (
    AdversarialLoss, MultiScaleDiscriminator, get_adv_criterion, get_fake_criterion,
    get_real_criterion)


def play(rank, world, folder):
    if world > 1:
        torch.distributed.init_process_group(
            'gloo', f'file://{folder}/store', rank=rank, world_size=world)
    torch.manual_seed(rank)  # other weights, buffers and global RNG on each rank
    adversary = MultiScaleDiscriminator(
        filters=4, max_filters=8, groups=[1] * 4,
        scale_norms=['spectral_norm', 'weight_norm']).double()
    adv_loss = AdversarialLoss(
        adversary, torch.optim.Adam(adversary.parameters(), 1e-2), get_adv_criterion('hinge'),
        get_real_criterion('hinge'), get_fake_criterion('hinge'), max_norm=.05, probability=.6)
    generator = torch.Generator().manual_seed(7)
    updates = []
    for step in range(8):
        fake, real = torch.randn(2, 5, 1, 300, generator=generator, dtype=torch.float64)
        if step == 4:
            fake[4] = float('nan')  # on rank 1 only, and all must drop the update
        share = slice(None) if world == 1 else (slice(0, 3), slice(3, 5))[rank]
        adv_loss.train_adv(fake[share], real[share])
        updates.append(adv_loss.updated)
        torch.rand(rank + 1)
    torch.save({'state': adversary.state_dict(), 'updates': updates,
                'skipped': adv_loss.num_skipped}, f'{folder}/world{world}_rank{rank}.th')

if __name__ == '__main__':
    play(int(sys.argv[1]), 2, sys.argv[2])
'''


def test_two_ranks_equal_one(tmp_path):
    """Gradients are weighted by samples, weights and buffers broadcast, draws shared, and a
    gradient that is not finite on one rank is dropped by both (PITFALLS 7, 24, 26)."""
    root = Path(__file__).parents[2]
    env = {**os.environ, 'OMP_NUM_THREADS': '1',
           'PYTHONPATH': os.pathsep.join([str(root), os.environ.get('PYTHONPATH', '')])}
    processes = [subprocess.Popen([sys.executable, '-c', SCENARIO, str(rank), tmp_path], env=env)
                 for rank in range(2)]
    try:
        namespace = {}
        exec(SCENARIO, namespace)
        namespace['play'](0, 1, tmp_path)
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    alone, first, second = (torch.load(tmp_path / f'world{world}_rank{rank}.th', weights_only=True)
                            for rank, world in ((0, 1), (0, 2), (1, 2)))
    assert alone['updates'] == first['updates'] == second['updates']
    assert alone['skipped'] == first['skipped'] == second['skipped'] == 1
    assert 2 <= sum(alone['updates']) < 7
    for key, value in alone['state'].items():
        assert torch.equal(first['state'][key], second['state'][key]), key
        assert torch.allclose(first['state'][key], value, rtol=1e-9, atol=1e-12), key
