# `make demo` and `make test` make .venv and install into it what constraints.txt pins. `make test-slow` runs the tests that
# take long, which `make test` leaves out; both use WORKERS processes. `make fuzz` gives damaged files to all readers for
# FUZZ_MINUTES, beginning at SEED. `make lint` checks style and types. `make docs` builds
# the documentation into site/, and `make docs-serve` shows it at http://127.0.0.1:8000 while it is written.
#
# `make benchmark` measures segkit beside other packages, for half an hour, and rewrites the table in
# docs/results/benchmarks.md; `make benchmark-growth` measures each stage on volumes of several sizes and by one thread, for
# a quarter of one. Both make their volumes of synthetic neurites, or of the labels in LABELS=FILE; stopped, they go on by
# the same command, and AGAIN=--again measures anew what is measured. `make benchmark-losses` does so with the losses, in
# minutes (LOSS_BACKENDS="cpu gpu" where there is a GPU; LOSS_INPUT=FILE, with affinities and truth). `make benchmark-feed`
# times what surrounds the network in training and inference. `make gpu-check` says in nine minutes what segkit
# does on a CUDA GPU; see docs/how-to/gpu-check.md for WHEELS=FOLDER, of a machine without network, and DATA=FILE.

VENV ?= .venv
WORKERS ?= logical
LABELS ?=
AGAIN ?=
LOSS_BACKENDS ?= cpu higra
LOSS_SIZES ?= 56 84 128
LOSS_INPUT ?=
MINUTES ?= 30
FUZZ_MINUTES ?= 5
SEED ?= 0
ONLY ?=
WHEELS ?=
DATA ?=
GPU_CHECK ?=
PYTHON ?= python3
BIN := $(VENV)/bin
# Tests start many processes: each would compile every module anew if none may keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile

.PHONY: demo test test-slow fuzz lint docs docs-serve benchmark benchmark-growth benchmark-losses benchmark-feed gpu-check experiments pictures gallery clean

demo: $(VENV)/.installed
	$(BIN)/segkit demo

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

test-slow: $(VENV)/.installed
	$(PYTEST) -m slow

fuzz: $(VENV)/.installed
	$(BIN)/python -m tests.fuzz.fuzzer --trials 1000000 --minutes $(FUZZ_MINUTES) --seed $(SEED)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Material for MkDocs would print a notice about MkDocs 2.0 into every build.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
docs: $(VENV)/.installed-docs
	$(MKDOCS) build --strict
	@echo "open site/index.html"

docs-serve: $(VENV)/.installed-docs
	$(MKDOCS) serve

# Volumes are made of that of 256 voxels a side, so that they hold the same tissue.
INPUTS = benchmarks/inputs/$(or $(basename $(notdir $(LABELS))),neurites)
$(INPUTS)-256.zarr: | $(VENV)/.installed
	$(BIN)/python benchmarks/make_inputs.py $@ --size 256 $(if $(LABELS),--labels $(LABELS))
$(INPUTS)-%.zarr: | $(INPUTS)-256.zarr
	$(BIN)/python benchmarks/make_inputs.py $@ --size $* --labels $(INPUTS)-256.zarr

benchmark: $(VENV)/.installed $(INPUTS)-256.zarr
	$(BIN)/pip install --quiet --disable-pip-version-check mahotas
	$(BIN)/python benchmarks/peers.py $(INPUTS)-256.zarr $(AGAIN)
	$(BIN)/python benchmarks/report.py

benchmark-growth: $(VENV)/.installed $(foreach size,128 256 512,$(INPUTS)-$(size).zarr)
	$(BIN)/python benchmarks/growth.py $(filter %.zarr,$^) $(AGAIN)
	$(BIN)/python benchmarks/report.py

LOSSES = $(BIN)/segkit benchmark loss $(LOSS_INPUT) --loss constrained-malis $(addprefix --size ,$(LOSS_SIZES))
benchmark-losses: $(VENV)/.installed
	mkdir -p benchmarks/results
	$(LOSSES) $(addprefix --backend ,$(LOSS_BACKENDS)) --threads 1 --out benchmarks/results/losses.json
	$(LOSSES) --batch 2 --threads 1 --out benchmarks/results/losses-batch-2-threads-1.json
	$(LOSSES) --batch 2 --threads 2 --out benchmarks/results/losses-batch-2-threads-2.json
	$(BIN)/python benchmarks/report.py

benchmark-feed: $(VENV)/.installed
	$(BIN)/python -m pytest benchmarks/test_feed.py --benchmark-enable --benchmark-group-by=group

gpu-check: $(if $(WHEELS),,$(VENV)/.installed)
	$(if $(WHEELS),$(PYTHON),$(BIN)/python) benchmarks/gpu_check.py --out gpu-check.json $(GPU_CHECK) \
	    $(if $(WHEELS),--wheels '$(WHEELS)') $(if $(DATA),--data '$(DATA)')

# The experiments of the 2020 report: make experiments DATA=FILE [MINUTES=5 of training each] [ONLY="fcn unet2d"], and on
# natural images: make pictures TRAIN='FILE[0:18]' TEST='FILE[18:24]'. Both rewrite their tables in docs/results.
experiments: $(VENV)/.installed
	$(BIN)/python benchmarks/experiments.py $(DATA) --minutes $(MINUTES) $(if $(ONLY),--only $(ONLY))

pictures: $(VENV)/.installed
	PYTHONPATH=benchmarks $(BIN)/python plugins/segkit-natural-images/benchmarks/pictures.py '$(TRAIN)' '$(TEST)'

# The pictures of docs/gallery.md, from a finished demo: make gallery [DATA=FILE, of real tissue].
gallery: $(VENV)/.installed
	$(BIN)/python docs/gallery.py demo-output $(DATA)

clean:
	rm -rf $(VENV) demo-output site

$(VENV)/.installed: pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "segkit needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]" $(foreach plugin,$(wildcard plugins/*),-e ./$(plugin))
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@
