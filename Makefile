# Everything runs in .venv, made on first use. `make` alone prints the targets.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
RUN ?= runs/$(if $(DATA),$(shell basename '$(DATA)'),demo)
CONFIG ?= $(if $(DATA),,configs/demo.gin)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install format lint types test test-all coverage run bench results docs site clean

help: ## print the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

install: .venv/.installed ## make .venv with the package, all extras and the tools

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

format: .venv/.installed ## rewrite the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: .venv/.installed ## check format and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.installed ## check the types of src
	$(BIN)/mypy

test: .venv/.installed ## run the tests (GPU and network ones skip where there is none)
	$(BIN)/python -m pytest -n auto --dist loadfile

test-all: lint types test ## everything that CI runs

coverage: .venv/.installed ## run the tests and list the lines that none reaches
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt coverage
	$(BIN)/coverage run --source=src -m pytest
	$(BIN)/coverage report --show-missing --skip-covered

run: .venv/.installed ## whole job on the demo; DATA=FOLDER for yours, CONFIG=FILE.gin, ARGS='--set ...'
	@$(BIN)/hidvae run $(if $(DATA),--data '$(DATA)') $(if $(CONFIG),--config '$(CONFIG)') --output '$(RUN)' $(ARGS)

bench: .venv/.installed ## time the hot paths (docs/benchmarks.md); ARGS=--quick, PEERS=PYTHON, DATA=FOLDER
	$(BIN)/python benchmarks/bench_trie.py $(ARGS)
	$(BIN)/python benchmarks/bench_search.py $(if $(PEERS),--peers '$(PEERS)') $(ARGS)
	$(BIN)/python benchmarks/bench_training.py --profile $(ARGS)
	$(BIN)/python benchmarks/bench_tokenizer.py $(ARGS)
	$(BIN)/python benchmarks/bench_start.py $(ARGS)
	$(BIN)/python benchmarks/bench_prepare.py $(ARGS)
	$(BIN)/python benchmarks/bench_run.py $(if $(DATA),--data '$(DATA)') $(ARGS)
	$(if $(DATA),$(BIN)/python benchmarks/bench_encode.py '$(DATA)/items.parquet')

results: .venv/.installed ## the tables of docs/results.md on DATA=FOLDER: final, ablation, cold; three seeds each
	$(BIN)/python -m scripts.experiments final --data '$(DATA)'
	$(BIN)/python -m scripts.experiments ablation --data '$(DATA)'
	$(BIN)/python -m scripts.experiments cold --data '$(DATA)'

docs: .venv/.installed ## write docs/configuration.md and docs/http-api.md from the source
	$(BIN)/python scripts/write_configuration_docs.py
	$(BIN)/python scripts/write_http_docs.py

site: .venv/.installed ## build the pages of docs/ into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## remove .venv, caches and build output; runs/ stays
	rm -rf .venv build dist site .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
