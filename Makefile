# Every target sets up what it needs. `make help` lists them.

VENV   := .venv
STAMP  := $(VENV)/.ready
DRIVERS := $(VENV)/.drivers
BENCH  := $(VENV)/.bench
PYTHON ?=
TORCH  ?=
OUT    ?=
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow bench lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'Settings:'
	@echo '  PYTHON=python3.12          the interpreter that .venv is made with'
	@echo '  TORCH="torch==2.9.0"       what pip installs as torch, instead of a build that fits this machine'
	@echo '  OUT=runs/mine              where make demo writes, instead of the next free runs/demo-N'
	@echo "  ARGS=\"-k replay\"          more arguments for pytest or for offbeat demo"

setup: $(STAMP) ## make .venv: torch, the package, its tools

$(STAMP): pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" TORCH="$(TORCH)" ./scripts/setup.sh
	@touch $@

$(DRIVERS): $(STAMP) scripts/drivers.sh
	@./scripts/drivers.sh
	@touch $@

$(BENCH): $(STAMP)
	@$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --editable '.[bench]'
	@touch $@

demo: setup ## train two schedules side by side and write report.html (about ten minutes)
	@out="$(OUT)"; n=1; \
	while [ -z "$$out" ] || { [ -z "$(OUT)" ] && [ -e "$$out" ]; }; do out=runs/demo-$$n; n=$$((n + 1)); done; \
	$(VENV)/bin/offbeat demo --out "$$out" $(ARGS)

test: $(DRIVERS) ## run the tests, all but the slow ones (ARGS goes to pytest)
	$(VENV)/bin/python -m pytest -n 2 -m "not slow" $(ARGS)

test-slow: $(DRIVERS) ## run the slow tests, one at a time: killed processes, arms behind the protocols of their makers
	$(VENV)/bin/python -m pytest -m slow $(ARGS)

BENCHES := update act sample simulate study

bench: $(BENCH) ## measure speed against its floors and write the tables of benchmarks/README.md (below 15 minutes)
	@for name in $(BENCHES); do echo "bench_$$name"; $(VENV)/bin/python benchmarks/bench_$$name.py || exit 1; done
	$(VENV)/bin/python benchmarks/common.py

lint: setup ## ruff, formatting, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup ## let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .venv-franka-sim build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
