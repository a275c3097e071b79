# A bare machine needs Python 3.11 or newer with venv and pip, and a package index; every target makes .venv by itself.
PYTHON ?= $(or $(shell command -v python3.11),python3)
BIN := .venv/bin
STAMP := .venv/.installed
# A second environment for the libraries that tests and benchmarks compare with; only `make oracle` makes it.
ORACLE := .venv-oracle/bin/python
# A third one for FusionBench, which wants an older transformers than the others do: it imports names that version 5 no
# longer has. The version of torch is ours, so that both sides have the same decompositions.
FUSION := .venv-fusion/.installed

.PHONY: install run test check bench docs screenshots oracle oracle-fusion

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

run: install
	$(BIN)/merging demo

# Every process takes its share of the files in their order, so that two browsers are rarely started for one file; more
# than four would want more memory than they save time.
test: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

bench: install
	$(BIN)/python -m benchmarks.streaming --size 0.1B --repeats 1 $(and $(wildcard $(ORACLE)),--mergekit $(ORACLE))

docs: install
	$(BIN)/merging methods --markdown > docs/methods.md

screenshots: install
	$(BIN)/python -m tests.ui.screenshots docs/screenshots

oracle: $(ORACLE)

$(ORACLE): pyproject.toml
	$(PYTHON) -m venv .venv-oracle
	$(ORACLE) -m pip install --quiet --constraint constraints.txt '.[oracle]'
	touch $@

oracle-fusion: $(FUSION)

$(FUSION): Makefile
	$(PYTHON) -m venv .venv-fusion
	.venv-fusion/bin/python -m pip install --quiet fusion_bench==0.2.33 transformers==4.57.1 torch==2.13.0
	touch $@
