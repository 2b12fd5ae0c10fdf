# Two commands are all the set-up: make quickstart, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS_EACH ?= 240
OUT ?= quickstart
COMPARE ?= --budgets 140 280 560 --iterations 2 3 5 --allocations constant --minutes 2

.PHONY: quickstart test test-all lint bench demo docs screenshots faults package clean \
	docs/reproduction.md docs/performance.md docs/choosing.md

# Train an FPDM and a DiT on real handwritten digits for the same time, and compare them at the same budgets.
# Side by side, one thread each: what else the machine is doing slows both alike. The answer and its page come last.
quickstart: $(VENV)/runtime
	OMP_NUM_THREADS=1 TQDM_POSITION=1 $(BIN)/fpdm train digits --model dit --seconds $(SECONDS_EACH) --out $(OUT)/dit & \
	dit=$$!; trap "kill $$dit 2>/dev/null" EXIT INT TERM; \
	OMP_NUM_THREADS=1 $(BIN)/fpdm train digits --model fpdm --seconds $(SECONDS_EACH) --out $(OUT)/fpdm && wait $$dit
	$(BIN)/fpdm compare $(OUT)/fpdm $(OUT)/dit $(COMPARE) --out $(OUT)/compare

test: $(VENV)/dev
	$(BIN)/pytest -n auto

test-all: $(VENV)/dev
	$(BIN)/pytest -n auto -m 'slow or not slow'

lint: $(VENV)/dev
	$(BIN)/ruff check src tests benchmarks examples docs/conf.py
	$(BIN)/ruff format --check src tests benchmarks examples docs/conf.py
	$(BIN)/pyright --pythonpath $(BIN)/python

# All records of time and memory, and the page that shows them. Run it on a machine that does nothing else.
bench: $(VENV)/dev
	$(BIN)/python -m benchmarks.steps --out benchmarks/steps.json
	$(BIN)/python -m benchmarks.cache --out benchmarks/cache.json
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks.speed --parts steps diffusers solvers training overhead macs --out results/speed/speed.json
	$(BIN)/python -m benchmarks.speed --parts engine price --out results/speed/drawing.json
	$(BIN)/python -m benchmarks.speed --parts folder --out results/speed/folder.json
	$(BIN)/python -m benchmarks.attempts --out results/speed/attempts.json
	$(BIN)/python -m benchmarks.cold --out results/speed/cold.json
	$(MAKE) docs/performance.md

# The page of the recorded benchmarks. A test holds that they are the same.
docs/performance.md: $(VENV)/runtime
	$(BIN)/python -m benchmarks.page results/speed > $@

# The map of models, from the recorded comparisons. A test holds that they are the same.
docs/choosing.md: $(VENV)/runtime
	$(BIN)/python -m benchmarks.choosing results --figures docs/images > $@

# A page on this machine that shows what a budget does.
demo: $(VENV)/runtime
	$(BIN)/pip install --quiet --editable '.[demo]'
	$(BIN)/fpdm demo

# The documentation site: open docs/_build/index.html. A warning is an error.
docs: $(VENV)/dev
	$(BIN)/sphinx-build -qWE --keep-going -c docs . docs/_build

# docs/images, with Chromium and npm.
screenshots: docs
	$(BIN)/python -m tests.screenshots docs/images

# The page of the recorded reproduction, from its figures. A test holds that they are the same.
docs/reproduction.md: $(VENV)/runtime
	$(BIN)/python -m fpdm.reproduce.summary results/reproduction > $@

# Hours: 10,000 changed bytes, 100 kills, a long run with kills. MINUTES=25 makes what fits.
MINUTES ?= 150
faults: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --minutes $(MINUTES) --out results/reliability.json

# The wheel in a clean environment of each Python, as PYTHONS="python3.10 python3.12"; 6 GB of disk and minutes each.
PYTHONS ?= $(PYTHON)
package: $(VENV)/dev
	$(BIN)/python tests/package.py --python $(PYTHONS) --out results/package.json

clean:
	rm -rf $(VENV) $(OUT)

$(VENV)/runtime: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/dev: $(VENV)/runtime
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
