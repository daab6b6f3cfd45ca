"""Installs the packages, the configuration files and the command line."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "([^"]+)"', (HERE / "adversarial_trainer/__init__.py").read_text()
)
if VERSION is None:
    raise RuntimeError("adversarial_trainer/__init__.py defines no __version__")

CONFIG_PACKAGES = find_namespace_packages(include=["config*"])

# torchaudio 2.11 is the last line of torchaudio and supports torch >= 2.11.
REQUIRED = [
    "torch>=2.11",
    "torchaudio>=2.11",
    "hydra-core>=1.3,<1.4",
    "omegaconf>=2.3,<2.4",
    "flashy>=0.0.2",
    "dora-search>=0.1.13",
    "soundfile>=0.13",
    "numpy",
    "scipy",
    "tqdm",
    "matplotlib",
    "jinja2",
    "pydantic>=2.5",
    "tensorboard",
    "wandb",
    "safetensors",
]
# pesq has no wheels and needs a C compiler: it is not in `metrics`, so that those install anywhere.
METRICS = ["visqol-python>=3.8", "pystoi"]
PESQ = ["pesq"]
ENTROPY = ["constriction>=0.4"]
HUB = ["huggingface_hub>=1.0"]
EXPORT = ["transformers>=4.57", "onnx", "onnxscript", "onnxruntime"]
TESTS = ["pytest", "pytest-xdist", "hypothesis", "encodec", "julius", "torchmetrics"]
# Other people's formulas, which tests compare ours with.
TESTS += ["nnAudio", "auraloss", "pyloudnorm", "vector_quantize_pytorch"]
TESTS += ["playwright"]  # the report in a browser; uses the machine's Chromium
TESTS += ["nbclient", "ipykernel"]  # run docs/tour.ipynb
DOCS = ["mkdocs-material", "mkdocstrings[python]"]
DEV = [*METRICS, *ENTROPY, *HUB, *EXPORT, *TESTS, *DOCS, "ruff", "mypy"]

setup(
    name="adversarial_trainer",
    version=VERSION.group(1),
    description="A Hydra-configured training framework for GAN audio codecs",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    # config/ travels inside the package, so that no top-level `config` lands in site-packages;
    # adversarial_trainer/train.py finds it there, or beside the package in a checkout.
    packages=[
        *find_packages(include=["adversarial_trainer*", "solvers*"]),
        *(f"adversarial_trainer.{name}" for name in CONFIG_PACKAGES),
    ],
    package_dir={f"adversarial_trainer.{name}": name.replace(".", "/") for name in CONFIG_PACKAGES},
    package_data={"": ["*.yaml", "py.typed", "*.css", "*.js", "*.j2"]},
    entry_points={"console_scripts": ["adversarial-trainer=adversarial_trainer.cli:main"]},
    install_requires=REQUIRED,
    extras_require={
        "metrics": METRICS,
        "pesq": PESQ,
        "entropy": ENTROPY,
        "hub": HUB,
        "export": EXPORT,
        "dev": DEV,
    },
)
