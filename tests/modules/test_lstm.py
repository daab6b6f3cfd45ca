import encodec.modules as reference
import pytest
import torch

from adversarial_trainer.modules.lstm import StreamableLSTM


@pytest.mark.parametrize("skip", [True, False])
def test_equals_the_encodec_package(skip):
    theirs = reference.SLSTM(6, num_layers=2, skip=skip)
    ours = StreamableLSTM(6, num_layers=2, skip=skip)
    ours.load_state_dict(theirs.state_dict())
    for length in (1, 13):
        x = torch.randn(3, 6, length)
        torch.testing.assert_close(ours(x), theirs(x))


def test_autocast_keeps_the_precision_of_the_skip():
    lstm = StreamableLSTM(5)
    x = 100 + torch.randn(1, 5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        y = lstm(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, lstm(x), atol=0.02, rtol=0)
