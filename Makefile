# Needs make, git, python3 (3.11 or newer) and pip; everything else goes into .venv.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
DATA_DIR ?= .kb

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One folder for every test run: the embedding model is exported once. The processes that tests start, two
# hundred of them, do not compile every module anew.
TEST_ENV := HF_HUB_OFFLINE=1 KB_TEST_MODELS=$(CURDIR)/$(VENV)/models PYTHONDONTWRITEBYTECODE=

# Two processes, each with servers of its own; half of a test's time is waiting.
SIDE_BY_SIDE := -n 2 --dist loadfile

.PHONY: help setup serve test test-all check bench lock clean

help:
	@echo "make setup     the virtual environment, with .venv/bin/kb in it"
	@echo "make serve     ingest data/handbook and serve it on http://$(HOST):$(PORT)"
	@echo "make test      every test but the slow ones; make test-all runs those too"
	@echo "make check     format, lint, types, import floors, fast tests"
	@echo "make bench     measure against the limit and a plain service; see benchmarks/README.md"
	@echo "make lock      renew constraints.txt from pyproject.toml"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

serve: setup
	HF_HUB_OFFLINE=1 $(BIN)/kb ingest data/handbook --kb handbook --data-dir $(DATA_DIR)
	HF_HUB_OFFLINE=1 $(BIN)/kb serve --host $(HOST) --port $(PORT) --data-dir $(DATA_DIR)

test: setup
	$(TEST_ENV) $(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow"

test-all: setup
	$(TEST_ENV) $(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TEST_ENV) $(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow"

bench: setup
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.retrieval

# A fresh environment without constraints takes the newest releases that pyproject.toml allows; its list is the lock.
lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0' -e '.[dev,local-model]'
	$(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//' > constraints.txt
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) .kb build *.egg-info
