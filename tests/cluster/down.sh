#!/usr/bin/env bash
# down.sh NAME STATE_DIR: ends the node that up.sh made, its containers
# included, and removes everything of it. There being none, or half of one, is
# fine.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/parts.sh"
. "$here/units.sh"

[ "$#" = 2 ] || { echo "usage: down.sh NAME STATE_DIR" >&2; exit 2; }
name=$1 node="$(realpath -m "$2")/$1"
. "$here/place.sh"
place_name
place_clear
rm -rf "$node"
