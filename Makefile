# Each target is a line that a person could type. Python 3.11, make, git and a package index are all that is needed.
PYTHON ?= python3.11
UV_VERSION := 0.13.8
BIN := .venv/bin

# no stage, flow or test reports home
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false

.PHONY: setup demo test lint format lock bench clean

setup: .venv/.ready

.venv/.ready: requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock || $(BIN)/python -m pip install --quiet -r requirements.lock
	touch $@

demo: setup
	$(BIN)/python -m flows.demo

test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# versions only move when somebody asks for it
lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra export --extra s3 --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --upgrade -o requirements.lock

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf demo .venv
