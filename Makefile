# Needs nothing but Python 3.11+ and make; every target sets up .venv from the lock file first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTABLE := $(VENV)/.testable
DOCUMENTED := $(VENV)/.documented
RELEASE := $(VENV)/release
COMPILE := pip compile --universal --python-version 3.11 --generate-hashes --extra s3 --extra gcs --extra documents --extra mcp --upgrade --custom-compile-command "make lock" pyproject.toml
COMPILE_TOOLS := pip compile --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command "make lock" -c requirements-dev.lock
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The fast tests share nothing, so they run in as many processes as two cores hold. Of the rest a process does a whole file; each starts one cluster.
WORKERS ?= 2
FAST := -m "not ray and not slow" -q -n $(WORKERS) --dist worksteal
REST := -m "ray or slow" -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Bytecode is kept: every process that a test starts would compile the package again.
export PYTHONDONTWRITEBYTECODE =
.DEFAULT_GOAL := help
.PHONY: help venv demo browser test test-fast mutants check lint lint-js bench quality docs dist sbom audit lock image clean

help:
	@echo "make demo       ask a real question about a real book, offline, without a key"
	@echo "make test       all tests in WORKERS=2 processes: the fast ones, then those of Ray (of the pages: make browser)"
	@echo "make browser    install Chromium from Debian's packages, as root or by sudo"
	@echo "make test-fast  the quick tests: no Ray, no browser"
	@echo "make mutants    do the fast tests notice a changed operator? SAMPLE=200 PACKAGES='core events'"
	@echo "make check      format, lint, types, floors, fast tests"
	@echo "make lint       the same without tests"
	@echo "make lint-js    lint the pages' JavaScript where node and npm are; npm fetches eslint at the first time"
	@echo "make bench      the table of benchmarks with the peers in the same run: QUICK=1 ONLY='recursion serve'"
	@echo "make quality MODEL=openai/x BASE=http://127.0.0.1:8000/v1   right answers of a model, by several methods"
	@echo "make docs       the documentation as a site in site/; a warning or a broken link is an error"
	@echo "make dist       wheel and source distribution in dist/"
	@echo "make sbom       what requirements.lock installs, as CycloneDX in dist/sbom.json"
	@echo "make audit      known vulnerabilities of what requirements.lock installs; asks PyPI"
	@echo "make image      build the image of deploy/Dockerfile and ask a question in it, where Docker is"
	@echo "make lock       renew requirements*.lock"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("rlm_ray needs Python 3.11 or newer; found %d.%d. Set PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(READY)

# What tests need lies on top: the same versions, and more libraries.
$(TESTABLE): $(READY) requirements-dev.lock
	$(PIP) --require-hashes -r requirements-dev.lock
	@touch $(TESTABLE)

venv: $(TESTABLE)

browser:
	@test -x /usr/bin/chromium || { SUDO=$$(test "$$(id -u)" = 0 || echo sudo); \
	  $$SUDO apt-get update -qq && $$SUDO apt-get install -qq --yes --no-install-recommends chromium > /dev/null; }

demo: $(READY)
	$(BIN)/rlm-ray ask "How does the creature learn to speak and read?" examples/frankenstein.txt --model offline/extractive

test: $(TESTABLE)
	@test -x /usr/bin/chromium || echo "No browser here: the tests of the report and the web page will be skipped. 'make browser' installs one."
	@status=0; \
	$(BIN)/python -m pytest $(FAST) || status=$$?; \
	$(BIN)/python -m pytest $(REST) || status=$$?; \
	exit $$status

test-fast: $(TESTABLE)
	$(BIN)/python -m pytest $(FAST)

SAMPLE ?= 100
SEED ?= 1

mutants: $(TESTABLE)
	$(BIN)/python tests/mutants.py $(PACKAGES) --sample $(SAMPLE) --seed $(SEED) $(if $(FILES),--files $(FILES))

check: lint test-fast

lint: $(TESTABLE) lint-js
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# From npm's cache, or else from its registry. What npm cannot fetch is no fault of the code: then a line says that nothing was linted.
lint-js:
	@export npm_config_fetch_retries=1 npm_config_fetch_timeout=20000; for offline in true false; do export npm_config_offline=$$offline; \
	  npm run --silent lint -- --version > /dev/null 2>&1 && exec npm run --silent lint; done; \
	echo "No node and npm here, or npm cannot fetch eslint: the pages' JavaScript is not linted."

bench: $(TESTABLE)
	$(BIN)/python benchmarks/table.py $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

quality: $(READY)
	PYTHONPATH=benchmarks $(BIN)/python -m quality --model "$(MODEL)" --base "$(BASE)" $(if $(TASKS),--tasks "$(TASKS)") \
	  $(if $(METHODS),--methods "$(METHODS)") $(if $(TIME),--time "$(TIME)") $(if $(PARAMS),--params '$(PARAMS)') $(OPTIONS)

# The generators of pages read the package, so the site is built beside it. Warnings are errors: a link that leads nowhere, a page
# that no menu names, a docstring that cannot be read.
$(DOCUMENTED): $(READY) requirements-docs.lock
	$(PIP) --require-hashes -r requirements-docs.lock
	@touch $(DOCUMENTED)

docs: $(DOCUMENTED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python docs/hooks.py site

# Tools of a release are in an environment of their own: their versions are none of the package's.
$(RELEASE)/.ready: requirements-release.lock
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-release.lock
	@touch $@

dist: $(RELEASE)/.ready
	$(RELEASE)/bin/python -m build --outdir dist .

sbom: $(RELEASE)/.ready
	@mkdir -p dist
	$(RELEASE)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --mc-type library --output-reproducible -o dist/sbom.json

audit: $(RELEASE)/.ready
	$(RELEASE)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet uv
	$(VENV)/lock/bin/uv $(COMPILE) --group build -o requirements.lock
	$(VENV)/lock/bin/uv $(COMPILE) --group dev -c requirements.lock -o requirements-dev.lock
	$(VENV)/lock/bin/uv $(COMPILE_TOOLS) --group docs -o requirements-docs.lock
	$(VENV)/lock/bin/uv $(COMPILE_TOOLS) --group release -o requirements-release.lock
	$(VENV)/lock/bin/uv $(subst -c requirements-dev.lock,,$(COMPILE_TOOLS)) --group bench -o requirements-bench.lock

# In a container as deploy/compose.yaml runs it: nothing to write to but /tmp and the home, no capability.
IMAGE ?= registry.example.org/rlm-ray:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
CONTAINER := docker run --rm --read-only --tmpfs /tmp:mode=1777 --tmpfs /home/ray:uid=1000,gid=1000 --shm-size 1g \
  --cap-drop ALL --security-opt no-new-privileges:true

image:
	docker build -f deploy/Dockerfile -t $(IMAGE) .
	$(CONTAINER) $(IMAGE) rlm-ray doctor
	$(CONTAINER) -v "$(CURDIR)/examples/frankenstein.txt:/book.txt:ro" $(IMAGE) rlm-ray ask "Who is the creature?" /book.txt --model offline/extractive

clean:
	rm -rf $(VENV)
