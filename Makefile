# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2

.PHONY: help install demo test test_integ test_slurm lint docs clean
.DEFAULT_GOAL := help

help:  ## Show this help
	@grep -hE '^[a-z_]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z_]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: $(STAMP)  ## Make .venv with the project (editable) and its development tools

# editable_mode=compat: a plain path, which editors and type checkers follow.
# Made again only when what it is made from changed. The stamp is written last, so an interrupted
# installation is picked up where it stopped.
$(STAMP): setup.py constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(None if sys.version_info >= (3, 10) else f"Python >= 3.10 is needed, $(PYTHON) is {v}; try make PYTHON=python3.11 install")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (torch and torchaudio are about 5 GB on disk) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10 \
		-c constraints.txt --config-settings editable_mode=compat -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pesq \
		2>/dev/null || echo "pesq was not built (it needs a C compiler): PESQ is left out."
	@touch $@

demo: install  ## Train a small codec on the embedded corpus (CPU, minutes); leaves audio and pictures
	@$(BIN)/python scripts/demo.py

test: install  ## Unit tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test_integ: install  ## Long tests: real command lines, several processes, SLURM, another environment
	@$(BIN)/python -m pytest -rs -m 'slow or integ or slurm'

test_slurm: install  ## Tests on a real SLURM cluster, started here for them (root, minutes)
	@$(BIN)/python -m pytest -rs -m slurm

lint: install  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: install  ## Build the documentation site into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict && echo "site/index.html"

clean:  ## Remove what the targets made, outputs/ excepted
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build site *.egg-info
