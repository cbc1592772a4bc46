# Each target sets up what it needs in .venv; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
DEMO_DIR ?= demo
DEMO_FLAGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-reliability lint wheel clean

demo: $(READY)
	$(BIN)/python tools/demo.py --output_dir=$(DEMO_DIR) $(DEMO_FLAGS)

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest -m 'slow and not reliability'

test-reliability: $(READY)
	$(BIN)/python -m pytest -m reliability -n 2 --dist=worksteal --durations=15

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: $(READY)
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir=dist .

$(READY): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
