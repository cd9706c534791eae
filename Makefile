# make test     lint, then the whole test suite             make demo    examples/water on every backend
# make lint     ruff, typos and mypy                         make demo BACKENDS=numpy    without any framework
# make bench    times and memory, docs/performance.md       make bench DEEPMD=/path/to/python   DeePMD-kit beside them
# make test-newest    the test suite with the newest release of everything, in .venv-newest
# make test-lowest    with the oldest that pyproject.toml allows, NumPy only, in .venv-lowest
# make docs     the documentation in site/                   make clean   remove what the others made, but for .venv
#
# Needs Python 3.11 or newer (make PYTHON=python3.12 ...) with venv and pip. Everything is installed into .venv.

PYTHON ?= python3
BACKENDS ?= numpy torch jax paddle
WORKERS ?= 2
PYTEST_ARGS ?=
DEEPMD ?=
BENCH_ARGS ?= --backends torch,jax,paddle,numpy

VENV := .venv
BIN := $(VENV)/bin
empty :=
comma := ,
space := $(empty) $(empty)

# One empty file per set of extras says that it was installed from these very pyproject.toml and constraints.txt.
STAMPS := $(VENV)/installed/$(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
FOR_TESTS := $(STAMPS)/test,all
FOR_DOCS := $(STAMPS)/docs
FOR_DEMO := $(STAMPS)/$(subst $(space),$(comma),$(strip $(BACKENDS)))

.PHONY: test test-newest test-lowest lint demo bench docs clean

# pytest runs last: its summary closes the output. One thread per worker, or they fight for the cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-newest:
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --upgrade --upgrade-strategy eager --editable '.[test,all]'
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# Backends whose frameworks are not there skip their tests by name.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install uv
	VIRTUAL_ENV=.venv-lowest .venv-lowest/bin/uv pip install --resolution lowest-direct --editable '.[test]' 'editables>=0.5'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(FOR_TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos
	$(BIN)/mypy

demo: $(FOR_DEMO)
	$(BIN)/python examples/water/demo.py --backends $(BACKENDS)

bench: $(FOR_TESTS)
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS) $(if $(DEEPMD),--deepmd $(DEEPMD)) --write docs/performance.md

docs: $(FOR_DOCS)
	$(BIN)/mkdocs build --strict

clean:
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(STAMPS)/%: | $(BIN)/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[$*]'
	mkdir -p $(STAMPS)
	find $(VENV)/installed -mindepth 1 -maxdepth 1 -not -path $(STAMPS) -exec rm -rf {} +
	touch '$@'

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("dpmodel needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
