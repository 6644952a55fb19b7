# Needs nothing but Python 3.11+ and make; every target sets up .venv from the lock file first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast check bench lock clean

help:
	@echo "make demo       ask a real question about a real book, offline, without a key"
	@echo "make test       all tests (Ray included)"
	@echo "make test-fast  the quick tests: no Ray, no browser"
	@echo "make check      format, lint, types, floors, fast tests"
	@echo "make bench      the benchmarks"
	@echo "make lock       renew requirements.lock"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("rlm_ray needs Python 3.11 or newer; found %d.%d. Set PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

venv: $(READY)

demo: $(READY)
	$(BIN)/rlm-ray ask "How does the creature learn to speak and read?" examples/frankenstein.txt --model offline/extractive

test: $(READY)
	$(BIN)/python -m pytest

test-fast: $(READY)
	$(BIN)/python -m pytest -m "not ray and not slow" -q

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not ray and not slow" -q

bench: $(READY)
	$(BIN)/python benchmarks/recursion.py

lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --group dev pyproject.toml -o requirements.lock --upgrade

clean:
	rm -rf $(VENV)
