# Everything runs in .venv; nothing is needed but Python >= 3.11, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BEAM := .venv-beam
LIBTPU := .libtpu
WORKDIR ?= runs/demo
JOBS ?= 2

.PHONY: install demo minilm test test-beam test-tpu lint bench clean

install: $(STAMP)

$(STAMP): setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python >= 3.11 is needed; set PYTHON=... (this is $$($(PYTHON) --version))"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: install
	$(BIN)/specialm demo --config=configs/local/demo.py --workdir=$(WORKDIR)

minilm: install  ## the weights of the sentence encoder MiniLM, 84 MB
	$(BIN)/python -m specialm.clustering.minilm_files

test: install
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

test-beam: $(BEAM)/.installed  ## preparation on Apache Beam, in an environment of its own (1.2 GB)
	JAX_PLATFORMS=cpu $(BEAM)/bin/python -m pytest $(PYTEST_ARGS) tests/workflows/test_beam_prepare.py

$(BEAM)/.installed: constraints-beam.txt
	test -x $(BEAM)/bin/python || $(PYTHON) -m venv $(BEAM)
	$(BEAM)/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-beam.txt
	$(BEAM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

test-tpu: install $(LIBTPU)/.installed  ## compiling for TPU slices; libtpu lies beside .venv (0.7 GB)
	JAX_PLATFORMS=cpu PYTHONPATH=$(LIBTPU) $(BIN)/python -m pytest $(PYTEST_ARGS) tests/planning/test_compilation.py

$(LIBTPU)/.installed: constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target $(LIBTPU) -c constraints.txt libtpu
	touch $@

lint: install
	$(BIN)/ruff check .

bench: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.data

clean:
	rm -rf $(VENV) $(BEAM) $(LIBTPU) build *.egg-info
