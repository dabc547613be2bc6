#!/usr/bin/env bash
# The wheel as a user gets it: built with the pinned backend, installed with the pinned dependencies
# in an empty environment, and run far from the checkout. PYTHON names the interpreter that has the
# build backend; `make smoke` says which.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
PYTHON=${PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf 'smoke: %s\n' "$*"; }

say "build"
"$PYTHON" -m pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps \
  -w "$work/dist" "$top"
"$PYTHON" - "$work"/dist/gitwaves-*.whl <<'PY'
import pathlib, sys, zipfile

held = set(zipfile.ZipFile(sys.argv[1]).namelist())
places = {"gitwaves": "gitwaves", "schemas": "gitwaves/_data/schemas", "hooks": "gitwaves/_data/hooks"}
for folder, target in places.items():
    files = [p for p in pathlib.Path(folder).rglob("*") if p.is_file() and p.suffix != ".pyc"]
    if not files:
        sys.exit(f"smoke: {folder}/ holds no file")
    missing = [str(p) for p in files if f"{target}/{p.relative_to(folder).as_posix()}" not in held]
    if missing:
        sys.exit(f"smoke: not in the wheel: {', '.join(sorted(missing))}")
PY

say "install"
"$PYTHON" -m venv "$work/venv"
bin=$work/venv/bin
"$bin/python" -m pip install -q --disable-pip-version-check --require-hashes \
  -r requirements/runtime.txt
"$bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-index \
  "$work"/dist/gitwaves-*.whl
"$bin/python" -m pip check

# From here on nothing of the caller is seen, and the checkout is not where we are.
mkdir "$work/home" "$work/scratch"
cd "$work/scratch"
clean() {
  env -i PATH="$bin:$PATH" HOME="$work/home" GIT_CONFIG_NOSYSTEM=1 GIT_EDITOR=true LC_ALL=C.UTF-8 \
    TZ=UTC "$@"
}
clean git config --global user.name "Ada Tester"
clean git config --global user.email ada@example.com
clean git init -q -b main .

say "version, help"
version=$("$bin/python" -c 'from importlib.metadata import version; print(version("gitwaves"))')
clean gitwaves --version | tee "$work/version"
grep -qF "$version" "$work/version"
clean gitwaves --help >"$work/help"
grep -q '^Usage: gitwaves ' "$work/help"
clean python -m gitwaves --help >"$work/help"
grep -q '^Usage: gitwaves ' "$work/help"
clean python - <<'PY'
import pathlib, gitwaves.resources as resources

assert "site-packages" in resources.__file__, resources.__file__
assert resources.schema_text("task.schema.json")
for hook in (pathlib.Path(resources.__file__).parent / "_data/hooks").iterdir():
    assert resources.hook_text(hook.name)
PY

say "init, import, check, status"
package=$("$bin/python" -c 'import gitwaves, os; print(os.path.dirname(gitwaves.__file__))')
design=$(find "$package/demo" -name '*design*.md' 2>/dev/null | sort | sed -n 1p || true)
mkdir docs
if [ -n "$design" ]; then
  cp "$design" docs/design.md
else
  cat >docs/design.md <<'MD'
# Payments

## WS-A: Ledger
Paths: `ledger/**`

### A1: Schema
Verify: `true`

The tables.

## WS-B: Gateway
Paths: `gateway/**`

### B1: Routes
Depends on: A1
Verify: `true`

The routes.

## Merge points
- MP1: A1 + B1
MD
fi
clean git add -A
clean git commit -q -m "The design"
clean gitwaves init
clean gitwaves import docs/design.md
clean git add -A
clean git commit -q -m "The plan"
clean gitwaves check
clean gitwaves status
clean gitwaves status --json | "$bin/python" -c 'import json, sys; assert json.load(sys.stdin)["tasks"]'
clean git status --porcelain | (! grep .)
say "fine"
