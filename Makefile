# Everything runs in .venv; nothing is needed but Python >= 3.11, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LIGHT := $(VENV)/.installed-light
FULL := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
BEAM := .venv-beam
LIBTPU := .libtpu
WORKDIR ?= runs/demo
JOBS ?= 2
SECONDS ?= 600
SLOW_MINUTES ?= 0
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help install install-light demo minilm notebooks site test test-all test-beam test-tpu soak check-pythons lint format bench clean

help:  ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 15

install: $(FULL)  ## .venv with all that the project needs (3.5 GB: TensorFlow for seqio, the tests' tools)

install-light: $(LIGHT)  ## .venv without TensorFlow, seqio and tools (1.1 GB): enough to use it

$(LIGHT): setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python >= 3.11 is needed; set PYTHON=... (this is $$($(PYTHON) --version))"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e .
	touch $(LIGHT)

$(FULL): $(LIGHT)
	$(PIP) -c constraints.txt -e '.[dev,seqio,tensorboard,wandb]'
	touch $(FULL)

demo: install-light  ## the whole job on real text, in minutes; WORKDIR=runs/demo has the report
	$(BIN)/specialm demo --config=configs/local/demo.py --workdir=$(WORKDIR)

minilm: install-light  ## downloads the weights of the sentence encoder MiniLM, 84 MB
	$(BIN)/python -m specialm.clustering.minilm_files

notebooks: install  ## runs the notebooks and keeps their outputs, 6 minutes
	$(BIN)/python notebooks/build.py

site: install  ## builds the documentation into build/site; a link that leads nowhere is an error
	$(PIP) -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # not --quiet: it would count no warnings

test: install  ## the tests, without the slow ones; JOBS=2 processes, PYTEST_ARGS=... for pytest
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-all: install  ## all tests, as CI runs them; SLOW_MINUTES=40 begins no slow test after that, and says so
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -rs --slow_minutes=$(SLOW_MINUTES) $(PYTEST_ARGS)

test-beam: $(BEAM)/.installed  ## tests of preparation on Apache Beam, in an environment of its own (1.2 GB)
	JAX_PLATFORMS=cpu $(BEAM)/bin/python -m pytest $(PYTEST_ARGS) tests/workflows/test_beam_prepare.py

$(BEAM)/.installed: constraints-beam.txt
	test -x $(BEAM)/bin/python || $(PYTHON) -m venv $(BEAM)
	$(BEAM)/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-beam.txt
	$(BEAM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

test-tpu: install $(LIBTPU)/.installed  ## tests of compiling for TPU slices; libtpu lies beside .venv (0.7 GB)
	JAX_PLATFORMS=cpu PYTHONPATH=$(LIBTPU) $(BIN)/python -m pytest $(PYTEST_ARGS) tests/planning/test_compilation.py

$(LIBTPU)/.installed: constraints.txt
	$(PIP) --no-deps --upgrade \
	  --target $(LIBTPU) -c constraints.txt libtpu
	touch $@

check-pythons: install-light  ## whether Python 3.11 to 3.14 can install it, by a dry run of pip for each
	$(BIN)/python tests/programs/resolve_pythons.py

soak: install  ## kills, damages and interrupts runs at random for SECONDS=600; SEED=0, KINDS=kills,bits,... ROWS=file
	PYTHONPATH=tests $(BIN)/python -m soak --seconds=$(SECONDS) --seed=$(SEED) $(if $(KINDS),--only=$(KINDS)) \
		$(if $(ROWS),--rows=$(ROWS))

lint: install  ## ruff, mypy and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## sorts imports and formats the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## times the training step and the data path; installs PyTorch to compare with
	$(PIP) -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.data

clean:  ## removes the environments and what was built
	rm -rf $(VENV) $(BEAM) $(LIBTPU) build *.egg-info .mypy_cache .ruff_cache .import_linter_cache
