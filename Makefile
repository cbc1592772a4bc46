# Each target sets up what it needs in .venv; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
DEMO_DIR ?= demo
DEMO_FLAGS ?=
OLDEST_TESTS := tests/modeling/test_alexnet.py tests/serving/test_export.py \
    tests/distribution/test_grid.py::test_every_op_of_a_column_is_on_its_device \
    tests/training/test_trainer.py::test_a_run_stopped_in_an_epoch_and_a_loop_ends_with_the_same_bits \
    tests/test_cli.py::test_eval_scores_a_run_of_two_columns_on_one_device
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-reliability test-gpu test-oldest audit lint wheel clean

demo: $(READY)
	$(BIN)/python tools/demo.py --output_dir=$(DEMO_DIR) $(DEMO_FLAGS)

# Three processes even on two cores: some tests wait for others.
test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist=loadfile --no-loadscope-reorder

test-slow: $(READY)
	$(BIN)/python -m pytest -m 'slow and not reliability' \
	    -n 2 --dist=loadfile

test-reliability: $(READY)
	$(BIN)/python -m pytest -m reliability -n 2 --dist=worksteal --durations=15

# Skipped with a line where there is no GPU.
test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu -rs -s tests/distribution/test_gpu.py

# The oldest TensorFlow and Keras that setup.py allows: the net in both forms, columns on
# a grid, a run that goes on where it stopped, and what is exported.
test-oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet \
	    --constraint=tests/constraints/oldest.txt --editable . pytest pytest-xdist
	$(VENV)-oldest/bin/python -m pytest -n 2 --dist=loadfile $(OLDEST_TESTS)

# --strict: a package that could not be looked up is a failure, not a pass.
audit: $(READY)
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip freeze --exclude-editable > $(VENV)-audit/newest.txt
	for set in $(VENV)-audit/newest.txt tests/constraints/oldest.txt; do \
	    $(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip -r $$set || exit 1; \
	done

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: $(READY)
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir=dist .

$(READY): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-audit build dist *.egg-info
