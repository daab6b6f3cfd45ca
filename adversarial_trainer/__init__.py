"""Training framework for GAN audio codecs: Hydra configuration, Dora runs, Flashy solvers."""

__version__ = "0.1.0"
