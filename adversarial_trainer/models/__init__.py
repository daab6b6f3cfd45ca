"""The codec model."""

from adversarial_trainer.registry import import_modules

from .encodec import EncodecModel, export_encodec_state_dict, load_encodec_state_dict

import_modules(__name__)

__all__ = ["EncodecModel", "export_encodec_state_dict", "load_encodec_state_dict"]
