# Every command of the project. `make` alone lists them.
#
# Works with GNU make 3.81 (macOS) and newer, and needs nothing but Python >= 3.11. Each install is one
# pip call, remembered by a stamp in .venv and repeated when pyproject.toml or constraints.txt changes.
# Windows: README.md has the same commands without make.

SHELL := bash
.DEFAULT_GOAL := help

PYTHON ?= python3
OUT ?= demo-videos
PYTEST_ARGS ?= -n 2
# The tests of one file share a Ray.
RLLIB_ARGS ?= -n 2 --dist loadfile

venv := .venv
python := $(venv)/bin/python
pip := $(python) -m pip install --disable-pip-version-check
pins := pyproject.toml constraints.txt
comma := ,
# RLlib and flatland want a Gymnasium and a numpy that are older than what the other tests run on.
rllib := .venv-rllib
rllib_pins := pyproject.toml constraints-rllib.txt

# Progress stays visible; what is settled already is left out. pip's own exit status counts.
define install
	@echo "==> installing $(1)"
	@set -o pipefail; $(pip) -c constraints.txt $(1) 2>&1 | awk '\
		!/already satisfied|it is neither a file nor|^Looking in |^ +(Install|Gett|Prepar|Check|Build|Creat|Stor|Attempt|Found|Uninstall|Success)/ \
		{ print; fflush() }'
	@touch $@
endef

.PHONY: help venv demo test browser check format docs site bench pin clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Settings: PYTHON=$(PYTHON)  OUT=$(OUT)  PYTEST_ARGS='$(PYTEST_ARGS)'  (make demo OUT=films)"

venv: $(venv)/.stamp-base ## Create .venv with Rollcam in it, editable

demo: $(venv)/.stamp-demo ## Record three environments and show what came out (OUT=folder)
	$(python) examples/demo.py --out "$(OUT)"

test: browser $(venv)/.stamp-test $(venv)/.stamp-beside $(rllib)/.stamp ## Install all that the tests need, browser included, and run them
	$(python) -m pytest $(PYTEST_ARGS)
	$(rllib)/bin/python -m pytest $(RLLIB_ARGS) tests/rllib

browser: ## Install Chromium, Firefox, and OpenGL for MuJoCo, where they are absent (Debian; else says how)
	@scripts/install_system.sh

check: $(venv)/.stamp-check ## Lint, format, floors, types, generated docs: what CI checks before the tests
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(venv)/bin/lint-imports
	$(python) -m mypy
	$(python) scripts/generate_docs.py --check

format: $(venv)/.stamp-check ## Format the code and mend what ruff can mend
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

docs: $(venv)/.stamp-check ## Write the generated pages of docs/ anew
	$(python) scripts/generate_docs.py

site: $(venv)/.stamp-test ## Build the documents as a site, in site/; a warning is an error
	$(python) -m sphinx -q -W --keep-going -b html docs site

bench: $(venv)/.stamp-bench $(rllib)/.stamp ## Measure Rollcam against its peers and write docs/benchmarks.md
	$(python) benchmarks/run.py

pin: $(venv)/.stamp-check $(venv)/.stamp-test $(venv)/.stamp-bench $(rllib)/.stamp ## Write constraints*.txt from what .venv and .venv-rllib hold
	$(python) scripts/pin.py
	$(rllib)/bin/python scripts/pin.py constraints-rllib.txt

clean: ## Remove caches and build products (films and .venv stay)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage
	find src tests benchmarks examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what the commands stand on ---------------------------------------------------------------------

$(venv)/.stamp-pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Rollcam needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
		echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "==> creating $(venv) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(venv)
	@# `--group` came with pip 25.1; Python 3.11 brings an older one.
	@$(pip) --quiet --upgrade 'pip>=25.1'
	@touch $@

$(venv)/.stamp-base: $(venv)/.stamp-pip $(pins)
	$(call install,-e .)

$(venv)/.stamp-demo: $(venv)/.stamp-pip $(pins)
	$(call install,-e '.[demo]')

# torch is pinned in the group, so that it is settled in the same pip call as all that wants it.
$(venv)/.stamp-test: $(venv)/.stamp-pip $(pins)
	$(call install,-e '.[all$(comma)trackers]' --group test)

# Old gyms, dm_control and TorchRL, each in a folder of its own.
$(venv)/.stamp-beside: $(venv)/.stamp-test scripts/install_beside.sh
	@scripts/install_beside.sh $(python) $(venv)/beside
	@touch $@

$(venv)/.stamp-check: $(venv)/.stamp-pip $(pins)
	$(call install,-e '.[all]' --group lint)

$(venv)/.stamp-bench: $(venv)/.stamp-pip $(pins)
	$(call install,-e '.[all$(comma)trackers]' --group bench)

# One call for all of it: flatland's pin of numpy has to be known when the rest is chosen.
$(rllib)/.stamp: $(venv)/.stamp-pip $(rllib_pins)
	@test -x $(rllib)/bin/python || { \
		echo "==> creating $(rllib), for Ray and flatland"; $(PYTHON) -m venv $(rllib); \
		$(rllib)/bin/python -m pip install --disable-pip-version-check --quiet --upgrade 'pip>=25.1'; }
	@echo "==> installing -e .[flatland] --group rllib into $(rllib)"
	@$(rllib)/bin/python -m pip install --disable-pip-version-check --quiet \
		-c constraints-rllib.txt -e '.[flatland,wandb]' --group rllib
	@touch $@
