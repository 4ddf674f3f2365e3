# Every target does its own set-up: Python 3.11 or later, make and the internet are enough.
PYTHON ?= python3
# Any build of torch will do for the parity tests; this one is what CI uses. For a CPU-only build
# from PyTorch's own index: make test-parity TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
STORE ?= build/store
# Of the campaigns of `make faults`; another one tries other faults.
SEED ?= 1
# Hostile configs that are planned; 0 takes all 67,060, about half an hour on two processors.
CONFIGS ?= 6000
HUB ?= 0.36.2

VENV := .venv
PARITY_VENV := .venv-parity
GPU_VENV := .venv-gpu
OLDEST_VENV := .venv-oldest
BIN := $(VENV)/bin

# Two tests say what only the newest packages do: the JSON Schema that pydantic writes, and the dtypes
# that safetensors' own reader knows.
OLDEST_TESTS := tests/sources tests/checkpoint tests/recipe tests/faults/test_hub_campaign.py \
  tests/test_hub_emulator.py tests/test_oldest.py tests/test_demo.py::test_the_model_recites \
  --deselect tests/recipe/test_json_schema.py::test_published_schema_is_the_models \
  --deselect tests/checkpoint/test_header_campaign.py::test_5000_corrupted_headers

.PHONY: demo test check format table test-parity test-oldest test-container test-gpu test-rtx faults bench clean

demo: $(VENV)/.demo  ## Build, prove, smoke-test and package the shipped model
	$(BIN)/trtllm-pack run recipes/demo.yaml --store $(STORE) --out build/demo

test: $(VENV)/.dev  ## All tests that need no GPU, network or torch
	$(BIN)/python -m pytest -n auto --dist loadgroup

check: $(VENV)/.dev  ## Lint, format, types, recipes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/trtllm-pack recipes check recipes/*.yaml

format: $(VENV)/.dev  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

table: $(VENV)/.dev  ## Every architecture, and what is shown of it on this machine
	$(BIN)/python -m tests.table

test-parity: $(PARITY_VENV)/.parity  ## Compare with transformers (torch)
	$(PARITY_VENV)/bin/python -m pytest -m torch tests/parity

test-oldest: $(OLDEST_VENV)/.oldest  ## What depends on other packages, with the oldest that are allowed
	$(OLDEST_VENV)/bin/python -m pytest -n auto --dist loadgroup $(OLDEST_TESTS)

test-container: $(VENV)/.dev  ## Build the image with buildah and run the demo inside (root)
	$(BIN)/python -m pytest -m container tests/container

test-gpu: $(GPU_VENV)/.gpu  ## The first run on real hardware, inside NVIDIA's TensorRT-LLM image
	$(GPU_VENV)/bin/python -m pytest -v -s -m "trtllm or gpu" tests/gpu

test-rtx: $(VENV)/.dev  ## Engines of TensorRT for RTX, executed on a GPU (sm75 to sm121, without sm90)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[rtx,run,dev]'
	$(BIN)/python -m pytest -v -s -m gpu tests/gpu/test_any_gpu.py

faults: $(VENV)/.dev  ## Kills, signals, disk faults, limits and races: 500 kills, 200 faults, 8 processes
	$(BIN)/python -m tests.faults --seed $(SEED)
	$(BIN)/python -m tests.faults kills signals --recipe cpu-tp2 --kills 100 --signals 40 --seed $(SEED)
	$(BIN)/python -m tests.faults kills signals races --recipe tensorrt --kills 60 --signals 40 --races 4 --seed $(SEED)
	$(BIN)/python -m tests.faults kills signals disk races --recipe hub --kills 60 --signals 60 --faults 40 --races 6 --seed $(SEED)
	$(BIN)/python -m tests.faults kills signals --recipe modelscope --kills 40 --signals 40 --seed $(SEED)
	$(BIN)/python -m tests.faults kills signals disk --recipe pytorch --kills 60 --signals 40 --faults 40 --seed $(SEED)
	$(BIN)/python -m tests.faults.hub --seed $(SEED)
	$(BIN)/python -m tests.faults.hostile_configs build/faults/configs-0 $(SEED) $(CONFIGS) 0 2 & other=$$!; \
	$(BIN)/python -m tests.faults.hostile_configs build/faults/configs-1 $(SEED) $(CONFIGS) 1 2 && wait $$other

bench: $(PARITY_VENV)/.bench  ## Ratios against other tools, side by side: make bench BENCH=decoding
	$(PARITY_VENV)/bin/python -m tests.bench $(BENCH)

clean:
	rm -rf $(VENV) $(PARITY_VENV) $(GPU_VENV) $(OLDEST_VENV) build

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "error: Python 3.11 or later is needed; name it by PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[rtx]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[rtx,dev]'
	touch $@

# The lower bounds of pyproject.toml, with the hub's client before 1.0 (as in TensorRT-LLM's image):
# another HTTP library, other exceptions. An older one: make test-oldest HUB=0.34.0 in a fresh folder
$(OLDEST_VENV)/.oldest: pyproject.toml tests/oldest.py
	$(PYTHON) -m venv $(OLDEST_VENV)
	HUB=$(HUB) $(PYTHON) -m tests.oldest > $(OLDEST_VENV)/constraints.txt
	$(OLDEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(OLDEST_VENV)/constraints.txt --editable '.[rtx,dev]'
	touch $@

$(PARITY_VENV)/.parity: pyproject.toml
	$(PYTHON) -m venv $(PARITY_VENV)
	$(PARITY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(PARITY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[rtx,verify,export,dev]'
	touch $@

$(PARITY_VENV)/.bench: $(PARITY_VENV)/.parity
	$(PARITY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[rtx,verify,dev,bench]'
	touch $@

# It sees the packages of the machine, TensorRT-LLM's above all, which stay as they are: each is a
# constraint at its version (see Dockerfile). The tools of the tests come after, beside them.
$(GPU_VENV)/.gpu: pyproject.toml
	$(PYTHON) -m venv --system-site-packages --without-pip $(GPU_VENV)
	$(GPU_VENV)/bin/python -c 'from importlib.metadata import distributions as d; v = {}; [v.setdefault(x.name.lower().replace("_", "-"), x.version) for x in d() if x.name]; print(*(f"{n}=={v[n]}" for n in sorted(v)), sep="\n")' > $(GPU_VENV)/constraints.txt
	$(PYTHON) -m pip --python $(GPU_VENV)/bin/python install --quiet --disable-pip-version-check --constraint $(GPU_VENV)/constraints.txt --editable .
	$(PYTHON) -m pip --python $(GPU_VENV)/bin/python install --quiet --disable-pip-version-check 'pytest>=9,<10' 'pytest-timeout>=2.3,<3' 'hypothesis>=6.130,<7'
	touch $@
