# Every target sets up what it needs. `make help` lists them.

VENV   := .venv
PYTHON_BIN := $(VENV)/bin/python
STAMP  := $(VENV)/.ready
OUT    ?=
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format types ci clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'Settings: PYTHON=python3.12  TORCH="torch==2.9.0"  OUT=runs/demo-mine  ARGS="-m not\ slow"'

setup: $(STAMP) ## make .venv: torch, the package, its tools

$(STAMP): pyproject.toml scripts/setup.sh
	@./scripts/setup.sh
	@touch $@

demo: setup ## train two schedules side by side and write report.html (about ten minutes)
	@out="$(OUT)"; n=1; \
	while [ -z "$$out" ] || { [ -z "$(OUT)" ] && [ -e "$$out" ]; }; do out=runs/demo-$$n; n=$$((n + 1)); done; \
	$(VENV)/bin/offbeat demo --out "$$out" $(ARGS)

test: setup ## run every test (ARGS goes to pytest)
	$(PYTHON_BIN) -m pytest -n 2 $(ARGS)

lint: setup ## ruff, formatting, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup ## let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
