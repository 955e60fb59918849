PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export OMP_NUM_THREADS := 1

.PHONY: demo test slow lint resolve clean

demo: $(READY)
	$(BIN)/latens run scarcity --preset quick --out runs/demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not slow"

slow: $(READY)
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Without pins: does the newest release of every dependency still resolve?
resolve: $(READY)
	$(BIN)/pip install --dry-run --ignore-installed --quiet --report - . > /dev/null
	@echo "resolves"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) runs
