# Every target sets up what it needs: only Python 3.10+ and make have to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
MINUTES ?= 60
# Many tests wait for processes that start: two at a time take two thirds of the time, on two cores too.
WORKERS ?= 2
PYTHONS := 3.10 3.11 3.12 3.13 3.14

.PHONY: help setup demo test test-fast coverage check docs screenshots pins bench soak fuzz clean

help:
	@echo "make setup      .venv with the tested versions"
	@echo "make demo       see the whole chain run; ARGS='photo.jpg folder/' for your own pictures, ARGS=--page for a browser"
	@echo "make check      format, lint, types, who imports whom"
	@echo "make test       all tests; ARGS='-k name' for some"
	@echo "make coverage   all tests, and which lines none of them reaches"
	@echo "make test-fast  the core alone, under a minute"
	@echo "make docs       the documentation as a site, in build/site"
	@echo "make screenshots  the pictures of the page and of the recipes in docs/ anew; needs Chromium"
	@echo "make pins       whether the pins install on every supported Python"
	@echo "make bench      measure; ARGS='node' for one benchmark"
	@echo "make soak       the node and the bridge under disturbance; MINUTES=5"
	@echo "make fuzz       the node is sent nonsense: messages, parameters, transitions"
	@echo "make clean      remove everything that these made"

setup: $(READY)

$(READY): setup.py constraints.txt
	@echo "Setting up $(VENV): about 3 GB, some minutes, nothing is printed meanwhile."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ros,bridge,ray,int8,test,dev,docs]'
	touch $@

demo: $(READY)
	$(BIN)/python -m demo $(ARGS)

# The core alone: no processes, no sockets, no ROS, no large networks.
test-fast: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" --ignore=test/node --ignore=test/bridge \
		--ignore=test/cli --ignore=test/backends --ignore=test/runtime --ignore-glob='test/model/test_parity*' \
		--ignore=test/test_floors.py --ignore=test/test_examples.py --ignore=test/test_gpu.py --ignore=test/test_demo.py \
		--ignore=test/test_training.py $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

# The same, and which lines no test reaches; takes a fifth longer.
coverage: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report=term:skip-covered $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q test/test_floors.py

# The pins install on every supported Python. Asks the registry; installs nothing.
pins: $(READY)
	for python in $(PYTHONS); do echo "Python $$python" && $(BIN)/uv pip compile --quiet --no-python-downloads \
		--python-version $$python --constraint constraints.txt --all-extras setup.py > /dev/null || exit 1; done

# The site in build/site. Warnings are errors.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The page's pictures in docs/, taken by its tests.
screenshots: $(READY)
	PAGE_SCREENSHOTS=docs $(BIN)/python -m pytest -q test/bridge/page test/node/test_recipes.py $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(READY)
	$(BIN)/python -m soak --minutes $(MINUTES) $(ARGS)

# Some minutes; ARGS='--messages 10000 --parameter-sets 2000 --walks 200', which is what it does anyway.
fuzz: $(READY)
	$(BIN)/python -m soak.fuzz $(ARGS)

clean:
	rm -rf $(VENV) build install log demo_out .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
