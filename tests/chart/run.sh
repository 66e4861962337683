#!/usr/bin/env bash
# The chart and the manifests made of it, without a cluster: what helm renders
# of them, what they refuse, and whether Kubernetes would take it.
#
# HELM names a helm 4, KUBECTL a kubectl; else tests/cluster/build.sh makes one.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/need.sh

cache="${RESTPIPE_CACHE:-$HOME/.cache/restpipe}"
# What the Kubernetes that the cluster tests run takes.
validator="kubernetes-validate==1.37.0"
# Not the Python suite's environment, which that one makes anew at will.
venv="$cache/chart-venv"

# === helm ===

if [ -z "${HELM:-}" ]; then
    # Where it cannot, it says why, and ends as a suite does that is skipped.
    tests/cluster/build.sh helm || exit
    HELM="$(. tests/cluster/parts.sh && part helm)"
fi
case "$("$HELM" version --short)" in
v4.*) ;;
*) skip "$HELM is $("$HELM" version --short), and the chart is for helm 4" ;;
esac
export HELM

# === kubectl ===

if [ -z "${KUBECTL:-}" ]; then
    tests/cluster/build.sh kubectl || exit
    KUBECTL="$(. tests/cluster/parts.sh && part kubectl)"
fi
export KUBECTL

# === where they work ===

# No settings, plugins or repositories of whoever runs this.
work="$(mktemp -d "${TMPDIR:-/tmp}/restpipe-chart.XXXXXX")"
trap 'rm -rf "$work"' EXIT
export HELM_CACHE_HOME="$work/cache" HELM_CONFIG_HOME="$work/config" HELM_DATA_HOME="$work/data"
export KUBECONFIG="$work/none"

# === Python with yaml, and Kubernetes' own schemas ===

unchecked=""
python="$venv/bin/python"
if [ "$(cat "$venv/made-for" 2>/dev/null)" != "$validator" ]; then
    need python3 python3 python3-venv
    rm -rf "$venv"
    mkdir -p "$cache"
    if python3 -m venv "$venv" &&
        "$venv/bin/pip" install --quiet --disable-pip-version-check "$validator"; then
        printf '%s\n' "$validator" >"$venv/made-for"
    else
        rm -rf "$venv"
        unchecked="$validator cannot be installed: nothing was checked against Kubernetes' schemas"
        python=python3
        "$python" -c 'import yaml' || skip "$unchecked, and nothing else, as there is no python3-yaml either"
    fi
fi

# === checks ===

"$HELM" lint --strict charts/restpipe
"$python" -B -m unittest discover --start-directory tests/chart --top-level-directory tests/chart "$@"
[ -z "$unchecked" ] || skip "all else passed, but $unchecked"
