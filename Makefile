# Python 3.11, make, git and a package index are all that is needed. `make help` lists the targets.
PYTHON ?= python3.11
UV_VERSION := 0.13.8
BIN := .venv/bin
MODALITY ?= images
# extras of pyproject.toml that have a lock of their own: those that params.yaml needs, and those of an earlier setup
NEEDED := $(shell sed -nE -e 's/^modality: *(text).*/\1/p' -e 's/^  library: *(timm|transformers).*/\1/p' \
	params.yaml 2> /dev/null)
EXTRAS ?= $(patsubst .venv/.with-%,%,$(wildcard .venv/.with-*))
LOCKED := $(patsubst requirements-%.lock,%,$(wildcard requirements-*.lock))
WANTED := $(sort $(NEEDED) $(EXTRAS) $(filter text,$(MODALITY)))

# no stage, flow or test sends usage data
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false

.PHONY: help setup interpreter demo test lint format lock ship bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

# PYTHON=/path/to/python3.11 names the interpreter
setup: .venv/.ready $(BIN)/graftline $(WANTED:%=.venv/.with-%) ## make .venv; EXTRAS='text timm' adds to it

# The scripts of .venv name the folder that it was made in: after a move of the checkout .venv is made anew.
ifneq ($(shell cat .venv/.ready 2> /dev/null),$(CURDIR))
.PHONY: .venv/.ready
# what somebody else put there is not removed: only what has one of the files that setup leaves
REMOVE_OLD := if [ -e .venv ] && ! [ -e .venv/.ready ] && ! [ -e .venv/.made-by-setup ]; then \
	echo "error: .venv was not made by make setup: move it away, then run again" >&2; exit 1; fi; rm -rf .venv
endif

.venv/.ready: requirements.lock | $(if $(findstring command,$(origin PYTHON)),interpreter)
	$(check_interpreter)
	$(REMOVE_OLD)
	$(PYTHON) -m venv .venv
	touch .venv/.made-by-setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet -r requirements.lock
	pwd -P > $@

# the command `graftline`, which runs the code of this checkout
$(BIN)/graftline: .venv/.ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . \
		|| $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .

# Each of these locks has what its extras need beyond requirements.lock, so that nothing of that is looked up again.
$(if $(filter-out $(LOCKED),$(WANTED)),$(error EXTRAS=$(EXTRAS) has an unknown extra, expected some of: $(LOCKED)))
.venv/.with-%: requirements-%.lock .venv/.ready
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps -r $< \
		|| $(BIN)/python -m pip install --quiet --no-deps -r $<
	touch $@

# A PYTHON on the command line is checked even where .venv is ready.
interpreter:
	$(check_interpreter)

# make expands a whole recipe before its first line runs: a wrong interpreter stops it before anything is made.
version = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null)
check_interpreter = $(call refuse_unless_3.11,$(version))
refuse_unless_3.11 = $(if $(filter 3.11,$(1)),,$(error PYTHON=$(PYTHON) $(if $(1),is Python $(1),does not run); \
Graftline needs Python 3.11: make setup PYTHON=/path/to/python3.11))

demo: setup ## run the whole chain on handwritten digits, in demo/; MODALITY=text: on tickets, in demo-text/; 3 minutes
	$(BIN)/python -m flows.demo --modality $(MODALITY)

# six processes on two cores: tests that wait for a server or a process leave their core to others
test: setup ## run the tests and print the ten slowest
	$(BIN)/python -m pytest --numprocesses 6 --dist loadfile --no-loadscope-reorder

lint: setup ## check style, types and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-index-url --upgrade
# the locks of extras agree with each other, and leave out what the first has
BEYOND = --constraint requirements.lock $$(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements.lock)
AS_TEXT = $(BEYOND) --constraint requirements-text.lock

lock: setup ## move the locks to the newest versions that pyproject.toml allows
	$(COMPILE) --extra dev --extra export --extra s3 -o requirements.lock
	$(COMPILE) --extra text --extra minilm $(BEYOND) -o requirements-text.lock
	$(COMPILE) --extra transformers $(AS_TEXT) -o requirements-transformers.lock
	$(COMPILE) --extra timm $(AS_TEXT) -o requirements-timm.lock
	$(COMPILE) --extra ray $(BEYOND) -o requirements-ray.lock
	$(COMPILE) --extra openvino $(BEYOND) -o requirements-openvino.lock

ship: setup ## check deploy/ by published schemas, and run the image's steps without an engine; 5 minutes
	$(BIN)/uv tool run --quiet check-jsonschema@0.39.0 --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/uv tool run --quiet kubernetes-validate@1.37.0 --strict deploy/kubernetes/*.yaml
	$(BIN)/python -m benchmarks.ship $(if $(TORCH_WHEEL),--torch-wheel $(TORCH_WHEEL))

bench: setup ## run the benchmarks and keep their JSON in benchmarks/results/
	$(BIN)/python -m benchmarks

clean: ## remove demo/, demo-text/ and .venv/
	rm -rf demo demo-text .venv
