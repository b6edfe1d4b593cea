# make run     the whole thing on an embedded PostgreSQL, until Ctrl-C
# make test    the tests
# make lint    style, types, layers
# make soak    half an hour of work under random faults
# make bench   speed, beside its peers on the same server in the same run

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: run test lint bench soak clean setup

run: $(VENV)/.installed
	$(BIN)/persistence up $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/persistence fit code persistence examples
	$(BIN)/persistence canon check
	$(BIN)/persistence migrate sql | $(BIN)/squawk --stdin-filepath migrations.sql

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults.soak $(ARGS)

setup: $(VENV)/.installed-dev

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@if command -v uv >/dev/null 2>&1; then uv venv --quiet --python $(PYTHON) $(VENV); else $(PYTHON) -m venv $(VENV); fi

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@if command -v uv >/dev/null 2>&1; then \
	  uv pip install --quiet --python $(BIN)/python -e .; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -e .; \
	fi
	@touch $@

$(VENV)/.installed-bench: pyproject.toml | $(VENV)/.installed-dev
	@if command -v uv >/dev/null 2>&1; then \
	  uv pip install --quiet --python $(BIN)/python -e '.[bench]'; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'; \
	fi
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@if command -v uv >/dev/null 2>&1; then \
	  uv pip install --quiet --python $(BIN)/python -e '.[dev]'; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $@ $(VENV)/.installed
