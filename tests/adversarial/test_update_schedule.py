import pytest
import torch

from adversarial_trainer.adversarial.update_schedule import UpdateSchedule


def test_every_and_start():
    schedule = UpdateSchedule(every=3, start_step=4)
    assert [schedule.step() for _ in range(12)] == [s in (4, 7, 10) for s in range(12)]


def test_active_begins_with_the_first_step_that_may_update():
    schedule = UpdateSchedule(start_step=2)
    seen = []
    for _ in range(4):
        seen.append((schedule.step(), schedule.active))
    assert seen == [(False, False), (False, False), (True, True), (True, True)]
    assert UpdateSchedule().active  # before any step


def test_draws_are_shared_whatever_the_global_rng():
    """Ranks have different global RNG states and must agree all the same."""
    draws = []
    for rank in range(2):
        torch.manual_seed(rank)
        schedule = UpdateSchedule(probability=2 / 3, generator=torch.Generator().manual_seed(5))
        draws.append([(torch.rand(rank), schedule.step())[1] for _ in range(3000)])
    assert draws[0] == draws[1]
    assert sum(draws[0]) / 3000 == pytest.approx(2 / 3, abs=0.03)


def test_resumes_with_the_same_draws():
    schedule = UpdateSchedule(probability=0.5, every=2, start_step=3)
    for _ in range(10):
        schedule.step()
    state = schedule.state_dict()
    rest = [schedule.step() for _ in range(40)]
    other = UpdateSchedule(probability=0.5, every=2, start_step=3)
    other.load_state_dict(state)
    assert [other.step() for _ in range(40)] == rest
    assert 0 < sum(rest) < 20


@pytest.mark.parametrize(
    "key, value",
    [("every", 0), ("probability", 1.5), ("probability", float("nan")), ("start_step", -1)],
)
def test_wrong_values_are_named(key, value):
    with pytest.raises(ValueError, match=f"{key}.*{value}"):
        UpdateSchedule(**{key: value})
