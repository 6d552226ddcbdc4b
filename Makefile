# What a user or developer runs; each target sets up what it needs.
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
# spinning threads stand in each other's way on small machines
export OMP_WAIT_POLICY ?= passive

.PHONY: help setup test soak quickstart lint typecheck docs tutorials benchmarks clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.installed ## make a virtual environment with everything the tests need

.venv/.installed: pyproject.toml scripts/bootstrap
	@sh scripts/bootstrap test

test: setup ## run the tests (all of them, in a few minutes, without a network)
	@OMP_NUM_THREADS=1 MPLBACKEND=Agg $(PYTHON) -m pytest -n 2 --dist loadfile -q

soak: setup ## attack it for an hour (odd calls, hostile files, kills), and print a table of what came of it
	@OMP_NUM_THREADS=1 MPLBACKEND=Agg $(PYTHON) -W ignore tests/reliability/soak.py

quickstart: setup ## train on real cells, predict an unseen cell type, show how good it is
	@.venv/bin/transpert quickstart

lint: setup ## check style
	@sh scripts/bootstrap dev && .venv/bin/ruff check . && .venv/bin/ruff format --check .

typecheck: setup ## check types
	@sh scripts/bootstrap dev && .venv/bin/mypy

docs: setup ## build the documentation into docs/_build/html
	@sh scripts/bootstrap doc && TRANSPERT_DOCS_OFFLINE=1 .venv/bin/sphinx-build -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

tutorials: setup ## execute the tutorials in place
	@sh scripts/bootstrap doc && env -u MPLBACKEND .venv/bin/jupyter nbconvert --to notebook --execute --inplace tutorials/*.ipynb

benchmarks: setup ## say how the quality benchmark is run (it needs data files, see benchmarks/README.md)
	@$(PYTHON) -m benchmarks.quality run --help

clean: ## remove what the targets made
	@rm -rf .venv .bootstrap .pytest_cache .ruff_cache .mypy_cache docs/_build quickstart lightning_logs
