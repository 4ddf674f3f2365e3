"""One recipe in, one verified, reproducible TensorRT engine release out."""

__version__ = "0.1.0"
