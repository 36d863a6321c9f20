# Two commands: `make demo` trains and shows a small language model, `make test` runs all tests.
# Both keep their environment in .venv and touch no other. PYTHON=python3.12 chooses the interpreter.

PYTHON ?= python3
VENV := .venv
# A test run starts hundreds of processes: compiled once, not in each of them.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
RUN_READY := $(VENV)/.run-ready
TEST_READY := $(VENV)/.test-ready

.PHONY: help demo test check fuzz fuzz-c wasm kills sanitize aarch64 gpu gpu-pack docs docs-refresh format clean

help:
	@echo "make demo      make an environment in .venv, train a small language model, show what it can do"
	@echo "make test      make the same environment and run all tests (TESTS=... for some)"
	@echo "make check     style, types and the direction of imports"
	@echo "make fuzz      damage 10,000 files of every task and run the commands that read them (under 30 minutes; ARGS=...)"
	@echo "make fuzz-c    damage 10,000 model files and run the C library on them, under sanitizers (ARGS='FILES SEED')"
	@echo "make wasm      build examples/web: the C library for the browser, and the page (fetches a compiler, once)"
	@echo "make kills     kill training of every task wherever it touches the disk, and resume it (under an hour; ARGS=...)"
	@echo "make sanitize  run the native engine's kernels under three sanitizers (a few minutes, needs a C++ compiler)"
	@echo "make aarch64   run the native engine's kernels on an emulated processor (a minute, needs a cross compiler and QEMU)"
	@echo "make gpu-pack  fetch what make gpu needs on a machine without a network into build/gpu (DATA=folder with ptb)"
	@echo "make gpu       prove and time training on a GPU, with the PyTorch of PYTHON and build/gpu alone (ARGS=...)"
	@echo "make docs      build the guide into build/docs/site, its commands run and its figures made anew"
	@echo "make docs-refresh   write what the guide's commands print, draw and measure today into docs/guide"
	@echo "make format    put the code into its style"
	@echo "make clean     remove .venv and runs/demo"

demo: $(RUN_READY)
	@echo "==> training a word language model on the language reference that Python carries (about a minute)"
	@$(BIN)/gatewise train demo --out runs/demo --resume
	@echo "==> its perplexity on the test text, measured again from the run folder"
	@$(BIN)/gatewise evaluate runs/demo
	@echo "==> a sample: gatewise generate runs/demo --prompt 'the value of'"
	@$(BIN)/gatewise generate runs/demo --prompt 'the value of' --max-tokens 40 --temperature 0.7 --seed 1
	@echo "==> the run folder is runs/demo; its model card is runs/demo/README.md"
	@echo "==> next: . $(VENV)/bin/activate, then gatewise serve runs/demo and http://127.0.0.1:8000, or gatewise --help"

CPP := $(wildcard csrc/*.cpp csrc/*.hpp csrc/*.h csrc/*.inc csrc/runtime/*.cpp csrc/runtime/*.hpp csrc/tests/*.cpp csrc/tests/*.hpp examples/c/*.c)

TESTS ?= tests
# All tests run in two processes, each file in one of them; chosen ones as pytest runs them.
PROCESSES := $(if $(filter-out tests,$(TESTS)),,-n 2 --dist loadfile --no-loadscope-reorder)
test: $(TEST_READY)
	@echo "==> running the tests"
	@$(BIN)/python -m pytest $(PROCESSES) $(TESTS)

check: $(TEST_READY)
	@echo "==> style, types, direction of imports"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
	@$(BIN)/clang-format --dry-run --Werror $(CPP)

# ARGS='--seed 2 --only tagger' chooses; ARGS=--help lists what there is.
fuzz kills: $(TEST_READY)
	@$(BIN)/python -m tests.robustness.$@ $(ARGS)

fuzz-c: $(TEST_READY)
	@$(BIN)/python -m tests.library.fuzz $(ARGS)

# The compiler has an environment of its own; what it builds goes into examples/web, with the page that the server has, too.
ZIG := build/zig
PAGE = $(filter-out %.md,$(wildcard src/gatewise/serving/page/*))
wasm: $(ZIG)/.made
	@PATH=$(abspath $(ZIG)/bin):$$PATH cmake -S csrc -B build/wasm -DCMAKE_TOOLCHAIN_FILE=wasm.cmake \
	  -DPYTHON=$(abspath $(ZIG)/bin/python) >build/wasm.log || { cat build/wasm.log; exit 1; }
	@PATH=$(abspath $(ZIG)/bin):$$PATH cmake --build build/wasm >build/wasm.log || { cat build/wasm.log; exit 1; }
	@cp build/wasm/gatewise.wasm $(PAGE) examples/web/
	@echo "==> examples/web/gatewise.wasm: $$(wc -c <build/wasm/gatewise.wasm) bytes, $$(gzip -9c build/wasm/gatewise.wasm | wc -c) compressed"

$(ZIG)/.made: pyproject.toml constraints.txt
	@echo "==> installing a compiler for WebAssembly into $(ZIG) (large; once only)"
	@$(PYTHON) -m venv $(ZIG)
	@$(ZIG)/bin/python -m pip --disable-pip-version-check -q install --upgrade 'pip>=25.3'
	@$(ZIG)/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt --group wasm
	@touch $@

sanitize:
	@csrc/tests/sanitize.sh

aarch64:
	@csrc/tests/sanitize.sh aarch64

# What training needs besides PyTorch, without the native engine and TensorBoard. NumPy is packed for a Python without it.
GPU := build/gpu
GPU_PYTHON ?= 3.12
GPU_PLATFORMS := manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64
GPU_NEEDS := annotated-doc annotated-types click filelock jaxtyping markdown-it-py mdurl platformdirs pydantic \
  pydantic-core pygments rich safetensors shellingham tokenizers tomli-w typer typing-extensions typing-inspection \
  wadler-lindig

# GPU_PYTHON='3.11 3.12' packs for several versions of Python.
gpu-pack: $(VENV)/.made
	@rm -rf $(GPU)/wheels
	@for version in $(GPU_PYTHON); do \
	  $(PIP) download -c constraints.txt --no-deps --only-binary=:all: $(GPU_PLATFORMS:%=--platform %) \
	    --implementation cp --python-version $$version -d $(GPU)/wheels numpy $(GPU_NEEDS) || exit 1; \
	done
	@if [ -n "$(DATA)" ] && [ -d "$(DATA)/ptb" ]; then \
	  mkdir -p $(GPU)/data/ptb && cp "$(DATA)"/ptb/*.txt $(GPU)/data/ptb/; \
	elif ls $(GPU)/data/ptb/*.train.txt >/dev/null 2>&1; then :; \
	else echo "no Penn Treebank: run make gpu-pack DATA=FOLDER, where FOLDER/ptb holds its three texts"; exit 2; fi
	@du -sh $(GPU)/wheels $(GPU)/data

# Its packages go into a folder of their own, ahead of PYTHON's: a virtual environment would not see another's PyTorch.
gpu:
	@ls $(GPU)/wheels/*.whl >/dev/null 2>&1 || { echo "$(GPU)/wheels is empty: run make gpu-pack where there is a network"; exit 2; }
	@$(PYTHON) -c 'import torch' || { echo "$(PYTHON) has no PyTorch; expected 2.11 or newer: make gpu PYTHON=..."; exit 2; }
	@rm -rf $(GPU)/packages
	@$(PYTHON) -m pip --disable-pip-version-check -q install --no-index --no-deps --find-links $(GPU)/wheels \
	  --target $(GPU)/packages $(GPU_NEEDS) $$($(PYTHON) -c 'import numpy' 2>/dev/null || echo numpy)
	@PYTHONPATH=src:$(GPU)/packages $(PYTHON) -m gatewise doctor
	@PYTHONPATH=src:$(GPU)/packages $(PYTHON) -m benchmarks.gpu $(GPU)/data --out $(GPU)/gpu.json $(ARGS)

# Material for MkDocs prints an announcement that is no warning about these pages.
docs: $(TEST_READY)
	@echo "==> building the documentation (its commands take a few minutes; they are run again when the code has changed)"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "==> open build/docs/site/index.html"

docs-refresh: $(TEST_READY)
	@PYTHONPATH=docs $(BIN)/python -m making

format: $(TEST_READY)
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format . && $(BIN)/clang-format -i $(CPP)

clean:
	rm -rf $(VENV) runs/demo

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python $$($(PYTHON) -V 2>&1) is too old; expected 3.10 or newer: make PYTHON=python3.12"; exit 2; }
	@echo "==> making an environment in $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.3'
	@touch $@

# The native engine is built on the way, and what its source changed is built again; the wheel's test compiles nothing.
CSRC := CMakeLists.txt $(wildcard csrc/*.cmake csrc/*.h csrc/*.inc csrc/*.cpp csrc/*.hpp csrc/runtime/*.cpp csrc/runtime/*.hpp)
$(RUN_READY): $(VENV)/.made pyproject.toml constraints.txt $(CSRC)
	@echo "==> installing Gatewise and what it needs into $(VENV) (PyTorch is large; once only)"
	@$(PIP) install -c constraints.txt --group build
	@$(PIP) install -c constraints.txt --no-build-isolation -C 'build-dir=build/{wheel_tag}' -e '.[all]'
	@touch $@

$(TEST_READY): $(RUN_READY)
	@echo "==> installing the test tools into $(VENV) (once only)"
	@$(PIP) install -c constraints.txt --group dev --group peers --group workers --group docs
	@touch $@
