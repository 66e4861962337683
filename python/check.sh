#!/bin/sh
# Everything there is to check of the Python package; `make test` calls it.
#
# The virtual environment is kept in ${RESTPIPE_CACHE:-$HOME/.cache/restpipe}
# and brought up to date when pyproject.toml, or Python itself, has changed.
# PYTHON names the interpreter, 3.10 or newer; RESTPIPE_BIN the node that the
# end-to-end tests drive, else what cargo built. RESTPIPE_REQUIRE=python (or
# all) makes a missing node a failure. Arguments go to pytest.
set -eu

cd "$(dirname "$0")"
python=${PYTHON:-python3}
venv=${RESTPIPE_CACHE:-$HOME/.cache/restpipe}/python-venv

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "check.sh: $python is older than Python 3.10: name a newer one in PYTHON" >&2
    exit 1
}

# Checkouts share it: it has what the package needs, and not the package.
wanted="$("$python" -c 'import sys; print(sys.version, sys.base_prefix)') $(cksum <pyproject.toml)"
if [ ! -x "$venv/bin/pytest" ] || [ "$(cat "$venv/made-for" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --editable '.[test]'
    "$venv/bin/pip" uninstall --quiet --disable-pip-version-check --yes restpipe
    printf '%s\n' "$wanted" >"$venv/made-for"
fi

export PYTHONPATH="$(pwd)/src"

# No caches beside the sources: others may be reading the tree.
export MYPY_CACHE_DIR="$venv/mypy-cache" RUFF_CACHE_DIR="$venv/ruff-cache"
failed=0
"$venv/bin/ruff" format --check . || failed=1
"$venv/bin/ruff" check . || failed=1
"$venv/bin/mypy" || failed=1
"$venv/bin/python" -B -m pytest -p no:cacheprovider "$@" || failed=1
[ "$failed" -eq 0 ] || echo "check.sh: the Python package has failures, see above" >&2
exit "$failed"
