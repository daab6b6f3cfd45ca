"""The codec model."""

from .encodec import EncodecModel, export_encodec_state_dict, load_encodec_state_dict

__all__ = ["EncodecModel", "export_encodec_state_dict", "load_encodec_state_dict"]
