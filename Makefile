# Every target sets up .venv first if it is missing or older than the lock. GNU make, /bin/sh, Python 3.11-3.13.

PROFILE ?= quick
PYTHON  ?= python3 python3.13 python3.12 python3.11
BIN     := .venv/bin
STAMP   := .venv/.stamp

# Sets $$py to the first of $(PYTHON) that is of an accepted version.
PICK_PYTHON = for py in $(PYTHON); do \
	$$py -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && break; py=; \
	done; \
	[ "$$py" ] || { echo 'make: Python 3.11, 3.12 or 3.13 is needed; none of these is one: $(PYTHON)' >&2; exit 1; }

NEW_VENV = said=$$("$$py" -m venv $(1) 2>&1) || { rm -rf $(1); \
	"$$py" -c 'import ensurepip' 2>/dev/null || said='on Debian and Ubuntu: apt install python3-venv'; \
	echo "make: '$$py -m venv' failed; $$(echo "$$said" | tail -n 1)" >&2; exit 1; }

# One set-up at a time. A make that is killed leaves its shell and pip behind, and these hold the file open, too.
ALONE = exec 9<>Makefile; lock() { "$$py" -c "import fcntl; fcntl.flock(9, fcntl.LOCK_EX | $$1)" 2>/dev/null; }; \
	lock fcntl.LOCK_NB || { echo 'make: waiting for another set-up of .venv to end'; lock 0; }

.DEFAULT_GOAL := help
.PHONY: help reproduce test test-gpu torture lint coverage mutants bench site readme lab voila lock audit clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

reproduce: $(STAMP) ## every figure and table anew (PROFILE=smoke, quick, full or paper; default quick)
	@$(BIN)/jsigr run --profile $(PROFILE)

# Each process has one thread, and takes tests from the other when it has none left.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test: lint ## lint, then the test suite: 13 to 30 minutes on two cores (ARGS="-k words")
	@$(PYTEST) $(ARGS)

test-gpu: $(STAMP) ## the tests of tests/gpu on a CUDA device; make test has them on a device made of software
	@$(BIN)/python -m pytest -m gpu $(ARGS)

torture: lint ## the whole test suite: every kill and interrupt, every notebook again, every server
	@$(PYTEST) --torture $(ARGS)

lint: $(STAMP) ## ruff: rules and format, notebooks included; then which district may import which
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/python tools/arrows.py --quiet

# Without the tests of faults, which count files, bytes and processes to which coverage would add its own.
coverage: $(STAMP) ## the test suite, then its line coverage of jsigr_lib: below 90 percent is a failure
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check coverage==7.17.4
	@$(BIN)/coverage erase && $(BIN)/coverage run -m pytest --ignore tests/test_faults.py $(ARGS) && $(BIN)/coverage combine --quiet && \
	$(BIN)/coverage report --skip-covered

mutants: $(STAMP) ## mutation testing of what the method rests on: a quarter of an hour on one idle core
	@[ -d .venv-mutants ] || $(BIN)/python -m venv .venv-mutants
	@PYTHONPATH="$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; \
	export PYTHONPATH OMP_NUM_THREADS=1; \
	.venv-mutants/bin/python -m pip install --quiet --disable-pip-version-check mutmut==3.8.1 && rm -rf mutants && \
	.venv-mutants/bin/mutmut run && .venv-mutants/bin/python -m benchmarks.mutants

bench: $(STAMP) ## speed against peers, as ratios (ARGS="--only steps"; more in benchmarks/README.md)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[bench]'
	@$(BIN)/jsigr bench $(ARGS)

site: PROFILE = full
site: $(STAMP) ## the executed notebooks as pages to read offline, in site/ (PROFILE=smoke, quick or full; default full)
	@$(BIN)/jsigr site --profile $(PROFILE)

readme: $(STAMP) ## RESULTS.md and the generated blocks of README.md and its neighbours anew, from the published tables
	@$(BIN)/python tools/readme.py

# Whatever a user's own configuration says of tokens, passwords, origins and kernels, it is not read.
OWN_JUPYTER = JUPYTER_NO_CONFIG=1 JUPYTER_PREFER_ENV_PATH=1 JUPYTER_TOKEN= JUPYTER_TOKEN_FILE=

lab: $(STAMP) ## JupyterLab on this machine only, opened at the saliency explorer
	@$(OWN_JUPYTER) JUPYTER_PATH= $(BIN)/jupyter-lab --ip=127.0.0.1 \
		--ServerApp.jpserver_extensions='{"jupyter_lsp": True, "jupyter_server_terminals": True}' \
		--ServerApp.root_dir="$(CURDIR)" --LabApp.extra_labextensions_path=jsigr_lib/explorer/front/lab notebooks/explorer.ipynb $(ARGS)

voila: $(STAMP) ## the saliency explorer alone, as a page of its own, on this machine only
	@$(OWN_JUPYTER) JUPYTER_PATH="$(CURDIR)/jsigr_lib/explorer/front" $(BIN)/voila --Voila.config_file_paths=[] \
		--Voila.ip=127.0.0.1 --token --theme=light --template=jsigr notebooks/explorer.ipynb $(ARGS)

# Keeps every pin that still satisfies pyproject.toml.
lock: ## requirements.lock from pyproject.toml (UPGRADE=--upgrade for the newest of everything)
	@$(PICK_PYTHON); rm -rf .venv-lock; $(call NEW_VENV,.venv-lock); \
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 && \
	.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
		--extra dev --generate-hashes --no-annotate --custom-compile-command 'make lock' \
		$(UPGRADE) --output-file requirements.lock pyproject.toml && \
	rm -rf .venv-lock

# --strict, as pip-audit counts a package that the service does not know, or could not be asked about, as no finding.
audit: ## known vulnerabilities of the locked packages; fails if there are any, or if PyPI cannot be asked
	@$(PICK_PYTHON); rm -rf .venv-audit; $(call NEW_VENV,.venv-audit); \
	{ .venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1 && \
	  .venv-audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off $(ARGS) \
		--requirement requirements.lock; } 2>.venv-audit/log; status=$$?; \
	[ $$status = 0 ] || echo "make: audit failed: $$(tail -n 1 .venv-audit/log)" >&2; \
	rm -rf .venv-audit; exit $$status

clean: ## remove .venv and the tools' caches; keep runs/, the trained models
	rm -rf .venv .venv-lock .venv-mutants mutants .coverage* .pytest_cache .ruff_cache .hypothesis dist
	find benchmarks jsigr_lib notebooks tests \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# The stamp is removed first and written last: a set-up that was cut short starts again from an empty .venv.
# pip runs on the left of a pipe (only large downloads are shown), so the stamp also carries its verdict.
$(STAMP): requirements.lock pyproject.toml
	@$(PICK_PYTHON); $(ALONE); [ "$$(find $@ -newer requirements.lock -newer pyproject.toml 2>/dev/null)" ] && exit; \
	[ -f $@ ] || { rm -rf .venv; $(call NEW_VENV,.venv); \
		echo "Setting up .venv with $$($$py -V): on Linux, 3 GB to download and 6 GB on disk"; }; \
	rm -f $@; \
	{ PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --disable-pip-version-check \
			--require-hashes -r requirements.lock && echo 'Installing jsigr itself' && \
	   $(BIN)/python -m pip install --disable-pip-version-check --quiet \
			--no-deps --no-build-isolation -e . && touch $@; \
	} | sed -n 's/^ *\(Downloading .*[0-9][0-9]\.[0-9] MB)\)$$/  \1/p; s/^\(Installing\) collected.*/\1 the pinned packages/p; /^Installing jsigr/p'; \
	[ -f $@ ] || { echo 'make: set-up failed; fix the error above and run the same command again' >&2; exit 1; }
