"""What a codec's codebooks know of how often each code is used."""

from __future__ import annotations

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.quantization import ResidualVectorQuantizer
from adversarial_trainer.tools.compress.bitstream import EntropyCoder, make_table


def get_coder(model: EncodecModel, codebooks: int) -> EntropyCoder:
    """Entropy coder for the first `codebooks` codebooks, from the use of each code in training."""
    if not isinstance(model.quantizer, ResidualVectorQuantizer):
        raise ValueError(
            f"{type(model.quantizer).__name__} does not count how often codes are used"
        )
    books = model.quantizer.codebooks[:codebooks]
    try:
        return EntropyCoder([make_table(book.cluster_size.cpu().numpy()) for book in books])
    except ImportError as error:  # for a command line, one line
        raise ValueError(str(error)) from error
