# Every target builds .venv by itself on first use, and again when setup.py, constraints.txt or a tool below changed.
# PYTHON names the interpreter: Python 3.10 or newer.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test soak fuzz lint bench latency accuracy accuracy-geometry accuracy-labels reference venv extras trt-check gpu-check clean distclean

help:  ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(READY)  ## play a drive through the live node; results in demo_out/
	$(VENV)/bin/seg-perception demo --out demo_out

test: $(READY)  ## every test that this machine can run
	$(VENV)/bin/pytest

SOAK_MINUTES := 30
soak: $(READY)  ## the tests that take minutes; SOAK_MINUTES of them the live node
	SOAK_MINUTES=$(SOAK_MINUTES) $(VENV)/bin/pytest -m soak

FUZZ := --cases 100000
fuzz: $(READY)  ## 100,000 spoilt messages, with bounds checked in every compiled loop
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(VENV)/numba-bounds-checked $(VENV)/bin/python test/fuzz/run.py $(FUZZ)

lint: $(READY)  ## ruff (rules and format) and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(READY)  ## time every stage on this machine
	$(VENV)/bin/python benchmarks/run.py

latency: $(READY)  ## time the live node over DDS, against its stages and transport alone
	$(VENV)/bin/python benchmarks/node_latency.py

accuracy: accuracy-geometry accuracy-labels  ## both of the next two; they need Open3D (make extras)

accuracy-geometry: $(READY)  ## the right label on the right point, whatever the network
	$(VENV)/bin/python benchmarks/accuracy.py

ACCURACY :=
accuracy-labels: $(READY)  ## the network's labels on unseen drives, INT8, export (ACCURACY='--model net.onnx')
	$(VENV)/bin/python benchmarks/accuracy_labels.py $(ACCURACY)

reference: $(READY)  ## write what is generated from seg_perception/config: the schema, the table of settings
	$(VENV)/bin/python tools/write_reference.py

venv: $(READY)  ## only build .venv

extras: $(READY)  ## add PyTorch (CPU), Open3D, OpenVINO and TensorRT-RTX, so that their tests run too
	tools/install_extras.sh $(VENV)

trt-check: $(READY)  ## have the parser and builder of TensorRT-RTX (no GPU) take every network
	$(VENV)/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt \
		--no-build-isolation --editable '.[tensorrt-rtx]'
	$(VENV)/bin/pytest -m tensorrt_rtx
	$(VENV)/bin/pytest test/inference/test_cuda_runtime.py

GPU_CHECK :=
gpu-check: $(READY)  ## on a machine with an NVIDIA GPU: build, compare, measure; docs/gpu/<device>.md (docs/gpu/README.md)
	$(VENV)/bin/python benchmarks/gpu_check.py $(GPU_CHECK)

clean:  ## remove build products and results
	rm -rf build install log demo_out bench_out *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## remove .venv as well
	rm -rf $(VENV)

$(READY): setup.py setup.cfg constraints.txt tools/make_venv.sh tools/generate_messages.py $(shell find tools/interfaces -type f)
	PYTHON='$(PYTHON)' tools/make_venv.sh $(VENV)
	@touch $@
