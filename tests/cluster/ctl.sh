#!/usr/bin/env bash
# Stops and starts single components of a node that up.sh or kube.sh made.
#
#   ctl.sh NAME STATE_DIR start COMPONENT     with the flags it had; waits until it works
#   ctl.sh NAME STATE_DIR stop COMPONENT      asks it to end, waits until it has
#   ctl.sh NAME STATE_DIR kill9 COMPONENT     ends it unasked
#   ctl.sh NAME STATE_DIR pause COMPONENT     it keeps its connections and says nothing
#   ctl.sh NAME STATE_DIR cont COMPONENT      ends the pause
#   ctl.sh NAME STATE_DIR pid COMPONENT       prints its process id, fails if there is none
#   ctl.sh NAME STATE_DIR kill9-container NAMESPACE POD CONTAINER
#   ctl.sh NAME STATE_DIR exec COMMAND…       runs it in the network of the node
#
# Components: etcd apiserver, and on a real node controller-manager scheduler
# containerd kubelet kube-proxy coredns.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/parts.sh"
. "$here/units.sh"

[ "$#" -ge 4 ] || { sed -n '4,11s/^# *//p' "$0" >&2; exit 2; }
name=$1 node="$(realpath -m "$2")/$1" action=$3
shift 3
[ -d "$node/units" ] || fail "there is no $node: up.sh or kube.sh makes it"

# The process of one container, as the node's containerd knows it.
container_of() {
    local label='labels."io.kubernetes'
    "$(part ctr)" --address "$node/containerd.sock" --namespace k8s.io containers list --quiet \
        "$label.pod.namespace\"==$1,$label.pod.name\"==$2,$label.container.name\"==$3"
}

case $action in
start)
    unit_start "$1"
    unit_ready "$1"
    ;;
stop) unit_stop "$1" ;;
kill9) unit_kill "$1" ;;
pause) unit_signal "$1" STOP ;;
cont) unit_signal "$1" CONT ;;
pid) unit_pid "$1" ;;
kill9-container)
    [ "$#" = 3 ] || fail "kill9-container wants a namespace, a pod, and a container"
    found=""
    # One that has ended stays listed until kubelet clears it away.
    for id in $(container_of "$@"); do
        "$(part ctr)" --address "$node/containerd.sock" --namespace k8s.io tasks kill --signal SIGKILL "$id" \
            >/dev/null 2>&1 && found=yes
    done
    [ -n "$found" ] || fail "no container $3 runs in pod $1/$2 of $name"
    ;;
exec) exec nsenter --net="/run/netns/$name" "$@" ;;
*) fail "there is no $action: there are start, stop, kill9, pause, cont, pid, kill9-container and exec" ;;
esac
