# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt

.PHONY: install demo test lint screenshots bench clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	touch $@

demo: install
	$(BIN)/tuitune demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m tests.suite

screenshots: install
	$(BIN)/python -m tests.support.screenshots screenshots --run tests/support/recorded/gsm8k-qlora-20261124-132627 \
		--steered tests/support/recorded/captains-log-20261127-192416 --chat tests/support/recorded/chat-captains-log-20261127-230731

bench: install
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV)
