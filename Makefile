# Two commands matter: `make reproduce` and `make test`. Both set up .venv on first use.
PYTHON ?= python3
SCALE ?= quick
ONLY ?=
JOBS ?=
COURSE ?= build/assignments
FORCE ?=

BIN := .venv/bin
# The stamp holds the folder that .venv was made for: after a move it is made anew, in seconds.
INSTALLED := .venv/.installed
MOVED := $(shell [ ! -s $(INSTALLED) ] || [ "$$(cat $(INSTALLED))" = "$$(pwd -P)" ] || echo moved)
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))

.PHONY: help reproduce test lint report lab bench assignments grade student clean moved

help:
	@echo "make reproduce   run every notebook at scale quick and build the site in build/report;"
	@echo "                 ONLY=11 for the chapters whose name starts like this"
	@echo "make test        lint, types, unit tests, notebooks"
	@echo "make report      build the site again, from the stored outputs of the notebooks"
	@echo "make lab         open the notebooks in JupyterLab"
	@echo "make lint        lint and types only"
	@echo "make bench       measure speed and memory, in about half an hour; ONLY=losses for one part"
	@echo "make assignments write the students' copies for a class into build/assignments/release"
	@echo "make grade       grade what students handed in; COURSE=folder ONLY=a_infonce FORCE=--force"
	@echo "make student     an installation without checks, for students; TORCH names a build of torch"
	@echo "make clean       remove build/ (the environment .venv stays)"

reproduce: $(INSTALLED)
	@$(BIN)/python -m dytemp reproduce --scale $(SCALE) $(if $(JOBS),--jobs $(JOBS)) $(if $(ONLY),--only $(ONLY))

# One worker for each core, up to four; the cells of a chapter stay with one of them.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 \
		--dist loadscope --nbval-lax --nbval-current-env tests $(NOTEBOOKS)

lint: $(INSTALLED)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

report: $(INSTALLED)
	@$(BIN)/python -m dytemp report

lab: $(INSTALLED)
	$(BIN)/python -m jupyterlab $(ROOT) notebooks

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable ".[lab,dev,integrations,bench]"
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(ONLY)

# A course of your own: make assignments COURSE=folder. nbgrader needs its programs on the PATH;
# both commands see to that.
assignments: $(INSTALLED)
	@$(BIN)/python -m dytemp assignments --course $(COURSE)

grade: $(INSTALLED)
	@$(BIN)/python -m dytemp grade $(ONLY) --course $(COURSE) $(FORCE)

# On Linux the usual build of torch brings 4 GB of CUDA; TORCH names the small one, with the options
# that pytorch.org gives for CPUs: make student TORCH="torch torchvision ..."
TORCH ?= torch torchvision
student:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install --editable ".[lab]"
	@echo "Done. Open the assignments with: $(BIN)/jupyter lab"

clean:
	@test ! -d build/assignments/submitted || { echo "build/assignments holds work of students: move it away first"; exit 1; }
	rm -rf build dist

# The stamp is written last, so an interrupted installation starts again.
$(INSTALLED): pyproject.toml $(MOVED)
	@command -v "$(PYTHON)" >/dev/null || { echo "$(PYTHON) not found. On Debian or Ubuntu: sudo apt install python3 python3-venv"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dytemp needs Python 3.11 or newer, but $(PYTHON) is older. Choose another one: make PYTHON=python3.12 ..."; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "The module venv is missing. On Debian or Ubuntu: sudo apt install python3-venv"; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --editable ".[lab,dev,integrations]"
	@pwd -P > $@
