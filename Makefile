# Everything happens in .venv, which `make clean` removes. The first run needs a package index; pip's own
# environment variables (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL) choose another one.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
USABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	if "$$p" -c '$(USABLE)' 2>/dev/null; then echo "$$p"; break; fi; done)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types docs chromium bench bench-report bench-peers clean

help:  ## Show this list.
	@sed -n 's/^\([a-z-]*\):[^#]*##/\1/p' $(MAKEFILE_LIST) | while read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: $(VENV)/base  ## Install the base package (no torch) and check the sample model.
	@echo '$$ npu-guard check samples/*.onnx'
	@code=0; $(BIN)/npu-guard check samples/*.onnx || code=$$?; \
	echo; echo "npu-guard ended with exit code $$code: 1 means findings, as this sample is made to have some."; test $$code -eq 1

test: $(VENV)/dev chromium  ## Install torch and the tools, run all tests.
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/dev types  ## Style, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy finds a package's parts below its folder only, so the packs are linked to where a wheel has them.
STAGE := $(VENV)/stage/npu_guard
types: $(VENV)/dev  ## Types alone: mypy --strict on engine and packs.
	@rm -rf $(STAGE) && mkdir -p $(STAGE) && ln -s $(CURDIR)/npu_guard/* $(CURDIR)/rules $(CURDIR)/models $(CURDIR)/reports $(STAGE)/
	cd $(STAGE)/.. && ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p npu_guard

docs: $(VENV)/dev  ## Rewrite everything that is generated: docs, JSON schema, golden files.
	$(BIN)/python docs/generate.py
	$(BIN)/python -m pytest -q -p no:randomly --update-golden tests/test_golden.py

# The report is tested in a real browser. Playwright drives the system's, so nothing else is downloaded.
chromium:
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Installing Chromium for the browser tests ...'; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y chromium; } >/dev/null; \
	else echo 'make: the browser tests need Chromium; as root: apt-get install chromium' >&2; exit 1; fi

bench: $(VENV)/base  ## Measure start-up, time and memory against the budgets.
	$(BIN)/python bench/run.py

bench-report: $(VENV)/dev chromium  ## Write and open the HTML report of a model with 10,000 nodes.
	$(BIN)/python bench/html_report.py

bench-peers: $(VENV)/base  ## The same files with other tools, each in an environment of its own below .bench/.
	$(BIN)/python bench/run.py --peers

clean:  ## Remove the environment, caches and build results.
	rm -rf $(VENV) .bench build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: pip runs again only when a list of requirements has changed.
$(VENV)/base: pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo 'make: Python 3.11 or newer with its venv module is needed; name one with PYTHON=/path/to/python3' >&2; exit 1; fi
	@"$(PYTHON)" -c '$(USABLE)' || { echo 'make: $(PYTHON) is not Python 3.11 or newer with its venv module' >&2; exit 1; }
	@echo 'Creating $(VENV) and installing npu-guard ...'
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable .
	@touch $@

$(VENV)/dev: $(VENV)/base requirements/torch.txt
	@echo 'Installing torch and the development tools ...'
	@$(PIP) install --requirement requirements/torch.txt --editable '.[torch]' --group dev
	@touch $@
