# Needs Python 3.11 or newer, Git and make. Everything else goes to .venv, pinned by hash.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
SOURCES := gitwaves tests $(wildcard bench)
PYTEST := $(BIN)/python -m pytest -q -n auto --dist worksteal

.PHONY: demo test test-long lint check smoke bench pins clean

demo: $(STAMP)
	$(BIN)/gitwaves demo

test: $(STAMP)
	$(PYTEST)

# The tests that take minutes, and no others.
test-long: $(STAMP)
	$(PYTEST) -m long

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)

check: lint test

# Prints what docs/performance.md holds, in under ten minutes; a few limits are not reached, which is
# said there. With 64 worktrees, the default, that part takes minutes alone;
# `bench.others` measures what it finds, and installs nothing.
bench: $(STAMP)
	-$(BIN)/python -m bench.status
	-$(BIN)/python -m bench.hooks
	$(BIN)/python -m bench.plan
	$(BIN)/python -m bench.scale
	-$(BIN)/python -m bench.worktrees --worktrees 16
	-$(BIN)/python -m bench.others

# The wheel as a user gets it, in an empty environment.
smoke: $(STAMP)
	PYTHON="$(BIN)/python" bash tests/smoke_wheel.sh

# A fresh environment whenever what it was made from changes: nothing unpinned stays behind.
$(STAMP): requirements/dev.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Error: gitwaves needs Python 3.11 or newer, and '$(PYTHON)' is: $$("$(PYTHON)" --version 2>&1)" >&2; \
	  echo "Hint: name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Error: '$(PYTHON)' cannot make virtual environments (it lacks venv or ensurepip)" >&2; \
	  echo "Hint: install your system's package for it, often named python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# Renews the pins; needs `uv`, and is the only thing here that does. The universal resolution covers
# every supported Python and platform at once.
COMPILE := uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make pins"
pins:
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) pyproject.toml requirements/dev.in -c requirements/runtime.txt -o requirements/dev.txt

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find gitwaves tests -name __pycache__ -type d -prune -exec rm -rf {} +
