# make run        the whole thing on an embedded PostgreSQL, until Ctrl-C
# make test       the tests
# make test-slow  those that take long by their nature
# make lint       style, types, layers
# make soak       half an hour of work under random faults
# make bench      speed, beside its peers on the same server in the same run
# make lock       newer versions of what is installed (needs uv)

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
TOGETHER := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-slow lint bench soak lock clean setup

run: $(VENV)/.installed
	$(BIN)/persistence up $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m 'not slow' $(TOGETHER) $(ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow $(TOGETHER) $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/persistence fit code persistence examples
	$(BIN)/persistence canon check
	$(BIN)/persistence migrate sql | $(BIN)/squawk --stdin-filepath migrations.sql

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults.soak $(ARGS)

setup: $(VENV)/.installed-dev

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@if command -v uv >/dev/null 2>&1; then uv venv --quiet --python $(PYTHON) $(VENV); else $(PYTHON) -m venv $(VENV); fi

# What is installed is in requirements/, with digests: `make lock` brings it up to date.
INSTALL = if command -v uv >/dev/null 2>&1; then \
	    uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1) \
	    && uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	  else \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1) \
	    && $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	  fi
LOCK := uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-header --no-annotate

lock:
	$(LOCK) pyproject.toml requirements/build.in -o requirements/run.txt
	$(LOCK) --extra dev --extra bench pyproject.toml requirements/build.in -o requirements/dev.txt

$(VENV)/.installed: pyproject.toml requirements/run.txt | $(BIN)/python
	@$(call INSTALL,requirements/run.txt)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml requirements/dev.txt | $(BIN)/python
	@$(call INSTALL,requirements/dev.txt)
	@touch $@ $(VENV)/.installed
