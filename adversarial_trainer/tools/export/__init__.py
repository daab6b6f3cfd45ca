"""Trained codecs in the formats of others: transformers, safetensors, ONNX."""

from .command import FORMATS, export

__all__ = ["FORMATS", "export"]
