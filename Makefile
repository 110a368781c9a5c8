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
.PHONY: help demo test lint types docs site pictures chromium postgresql bench bench-report bench-peers bench-counts bench-instructions \
	bench-fleet test-long zoo verification sweep study twins fuzz fuzz-landing fuzz-record fuzz-guided differential hostile ecosystem mending \
	test-cluster digits healing example landing placing clean

help:  ## Show this list.
	@sed -n 's/^\([a-z-]*\):[^#]*##/\1/p' $(MAKEFILE_LIST) | while read -r name text; do printf '  make %-18s %s\n' "$$name" "$$text"; done

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
	$(BIN)/python bench/study/run.py --page
	$(BIN)/python -m pytest -q -p no:randomly --update-golden tests/test_golden.py

pictures: $(VENV)/dev chromium  ## Draw docs/report.png, the picture of the HTML report in the README.
	$(BIN)/python docs/pictures.py

site: $(VENV)/dev  ## Build the manual as a web site into build/site, without a network.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'build/site/index.html; to look at it: $(BIN)/python -m http.server --directory build/site'

# The report is tested in a real browser. Playwright drives the system's, so nothing else is downloaded.
chromium:
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Installing Chromium for the browser tests ...'; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y chromium; } >/dev/null; \
	else echo 'make: the browser tests need Chromium; as root: apt-get install chromium' >&2; exit 1; fi

postgresql:
	@if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Installing PostgreSQL for the tests of scan ...'; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y postgresql; } >/dev/null; \
	else echo 'make: the tests of scan need PostgreSQL; as root: apt-get install postgresql' >&2; exit 1; fi

bench: $(VENV)/dev  ## Measure start-up, time and memory against the budgets.
	$(BIN)/python bench/run.py

bench-report: $(VENV)/dev chromium  ## Write and open the HTML report of a model with 10,000 nodes.
	$(BIN)/python bench/html_report.py

bench-peers: $(VENV)/base  ## The same files with other tools, each in an environment of its own below .bench/.
	$(BIN)/python bench/run.py --peers

bench-counts: $(VENV)/dev  ## What check costs, counted and not timed; OPTIONS=--record keeps what tests hold it to.
	$(BIN)/python bench/counts.py $(OPTIONS)

bench-instructions: $(VENV)/dev  ## Instructions of whole processes beside import onnx, where valgrind is installed.
	$(BIN)/python bench/counts.py --instructions

bench-fleet: $(VENV)/cluster  ## What a million models in an object store cost, into docs/scale.md.
	$(BIN)/python bench/fleet.py --output docs/scale.md

# Long runs. SECONDS bounds each part of fuzz and fuzz-guided; CORPORA names folders of models:
# make ecosystem CORPORA="timm=/data/timm --resume FILE", where FILE keeps what is done through an interruption.
SECONDS := 300
NETWORKS := 500
twins: $(VENV)/dev  ## Graphs rewritten into others that mean the same must have the same findings on every device; NETWORKS random ones.
	$(BIN)/python fuzz/twins.py --count $(NETWORKS)

fuzz: $(VENV)/dev  ## Mutated models through our own code, then through everything; failures go to fuzz/failures/.
	$(BIN)/python fuzz/run.py --seconds $(SECONDS)
	$(BIN)/python fuzz/run.py --seconds $(SECONDS) --level quantized
	$(BIN)/python fuzz/run.py --seconds $(SECONDS) --level full
	$(BIN)/python fuzz/run.py --seconds $(SECONDS) --level deep
	$(BIN)/python fuzz/run.py --seconds $(SECONDS) --level files

fuzz-record: $(VENV)/dev  ## A million executions of our own code, another of quantized graphs and some ten thousand of everything, into docs/fuzzing.md.
	$(BIN)/python fuzz/run.py --seconds 36000 --count 1000000 --output docs/fuzzing.md
	$(BIN)/python fuzz/run.py --seconds 36000 --count 1000000 --level quantized --output docs/fuzzing.md
	$(BIN)/python fuzz/run.py --seconds 36000 --count 20000 --level full --output docs/fuzzing.md
	$(BIN)/python fuzz/run.py --seconds 36000 --count 5000 --level deep --output docs/fuzzing.md
	$(BIN)/python fuzz/run.py --seconds 36000 --count 50000 --level files --output docs/fuzzing.md

fuzz-landing: $(VENV)/dev  ## Random networks in PyTorch through fix --torch on four devices, into docs/fuzzing.md.
	$(BIN)/python fuzz/landings.py --output docs/fuzzing.md

SET :=
hostile: $(VENV)/dev  ## Six commands on hostile models, and on those of a folder SET, into docs/trust.md.
	@rm -rf .bench/hostile && mkdir -p .bench/hostile
	$(BIN)/python fuzz/hostile.py --write .bench/hostile/own
	$(BIN)/python bench/hostile.py .bench/hostile/own $(SET) --output docs/trust.md

differential: $(VENV)/dev  ## Single faults through check and through ONNX Runtime, into docs/fuzzing.md; CORPORA as for ecosystem.
	$(BIN)/python fuzz/differential.py $(CORPORA) --count 50000 --output docs/fuzzing.md

fuzz-guided: $(VENV)/dev  ## The same, guided by coverage with atheris.
	@$(PIP) install atheris
	$(BIN)/python fuzz/guided.py fuzz/corpus -max_total_time=$(SECONDS)

ecosystem: $(VENV)/dev  ## Check, fix and verify models that nobody here wrote, into docs/ecosystem.md.
	$(BIN)/python bench/ecosystem.py $(CORPORA) --output docs/ecosystem.md

mending: $(VENV)/dev  ## What fix removes, networks by devices, into docs/mending.md, and of int8 twins, into docs/mending-int8.md; MODELS are ONNX files or folders of more.
	$(BIN)/python bench/mending.py $(OPTIONS) $(MODELS)
	$(BIN)/python bench/mending_int8.py $(MODELS)

test-cluster: $(VENV)/cluster postgresql  ## A Ray cluster that loses a node, an S3-compatible server, PostgreSQL.
	$(BIN)/python -m pytest tests/fleet

ROUNDS := 20
test-long: $(VENV)/dev  ## New examples for all property tests, ROUNDS times, and many random networks of the zoo's blocks.
	for round in $$(seq $(ROUNDS)); do $(BIN)/python -m pytest -q -n 2 -m hypothesis --hypothesis-profile drawn || exit 1; done
	NPU_GUARD_EXAMPLES=1000 $(BIN)/python -m pytest -q -p no:randomly tests/rewriting/test_networks_property.py
	$(BIN)/python bench/mending.py --devices aimotive-aiware,nvidia-dla,ort-nnapi --output .bench/mending.md

COUNT := 2000
verification: $(VENV)/dev  ## Subtle changes of random networks through verify, COUNT pairs, into docs/verification.md.
	$(BIN)/python bench/verification.py --count $(COUNT) --output docs/verification.md

digits: $(VENV)/study  ## Train two sample networks on scikit-learn's digits, quantize them for three devices, into docs/digits.md.
	$(BIN)/python bench/digits.py

sweep: $(VENV)/dev  ## Forms of one number on all 2^32 numbers of float32, an hour, into docs/sweep.md.
	$(BIN)/python bench/sweep.py --output docs/sweep.md

zoo: $(VENV)/dev  ## Rewrite docs/zoo.md: every sample network at both sizes, some minutes.
	$(BIN)/python docs/seed_table.py

study: $(VENV)/study  ## Ask the vendors' compilers (their licences are yours to accept) and rewrite docs/agreement.md.
	$(BIN)/python bench/study/run.py

healing: $(VENV)/study  ## Accuracy of approximate blocks landed, healed and tuned, on digits, three seeds, into docs/depth.md.
	$(BIN)/python bench/healing.py --seeds 0 1 2 --output docs/depth.md

landing: $(VENV)/dev  ## Where fixes land in PyTorch: sample networks, and timm where it is installed, into docs/landing.md.
	$(BIN)/python bench/landing.py --output docs/landing.md

placing: $(VENV)/dev  ## What blocks cost at each place of a depth network, into docs/training.md.
	$(BIN)/python bench/placing.py --output docs/training.md

SEEDS := 0 1 2
example: $(VENV)/dev  ## A depth network trained, landed, healed, tuned and quantized from SEEDS, into docs/depth.md; some minutes.
	$(BIN)/python samples/depth/example.py --seeds $(SEEDS) --reports .bench/example --output docs/depth.md

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

$(VENV)/study: $(VENV)/dev
	@echo 'Installing what the studies of digits and of compilers need ...'
	@$(PIP) install --group study
	@touch $@

$(VENV)/cluster: $(VENV)/dev
	@echo 'Installing Ray, an S3-compatible server and the driver of PostgreSQL ...'
	@$(PIP) install --editable '.[cluster,postgresql]' s3fs 'moto[server]'
	@touch $@
