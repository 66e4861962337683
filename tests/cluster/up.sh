#!/usr/bin/env bash
# A real Kubernetes node on this machine, in a network of its own.
#
#   up.sh NAME INDEX STATE_DIR
#
# INDEX: 1 to 55, which no other node has, or auto. Prints the path of the
# kubeconfig of one who may do everything. What was NAME before is removed
# first, down.sh NAME STATE_DIR removes this one. In STATE_DIR/NAME:
#
#   kubeconfig        the same
#   addresses         node_address=172.30.INDEX.2, where NodePorts are, and
#                     host_address=172.30.INDEX.1, where its pods find this machine
#   hosts             names that its DNS knows besides, in the form of /etc/hosts
#   containerd.sock   for ctr, whose namespace is k8s.io
#   log/              what each component said
#
# Two nodes reach each other by their node addresses only, as two sites would.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../need.sh"
. "$here/parts.sh"
. "$here/units.sh"
. "$here/pki.sh"

[ "$#" = 3 ] || { sed -n '4,6s/^# *//p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || skip "only root can make a node"
name=$1 wanted_index=$2
mkdir -p "$3"
node="$(cd "$3" && pwd)/$name"
. "$here/place.sh"
place_name
# The kernel's limit for a socket's path is 107 bytes, kubelet's own part of it 35.
[ "${#node}" -le 70 ] || fail "$node is too long a path for sockets: at most 70 bytes"
case "$node/" in
/run/* | /var/run/* | /var/log/*)
    fail "the node would not see $node: these directories are its own" ;;
esac
node_needs >&2
"$here/build.sh" >&2 || exit

place_clear
rm -rf "$node"
# Not more than its own user may look at keys.
(umask 077 && mkdir -p "$node")
mkdir "$node"/{units,ready,run,log,cni}

finish() {
    [ "$?" = 0 ] || echo "the node $name is not complete: down.sh $name ${node%/*} removes what there is of it" >&2
}
trap finish EXIT

place_network "$wanted_index"
place_cgroups
pod_range=10.$((200 + index)).0.0/24
service_range=10.$((100 + index)).0.0/16
# The first address of the Services is the API itself.
service_of_api=10.$((100 + index)).0.1
apiserver=https://$node_address:6443
printf 'index=%s\nnode_address=%s\nhost_address=%s\n' "$index" "$node_address" "$host_address" >"$node/addresses"
: >"$node/hosts"

# === certificates ===

pki_ca
names="IP:127.0.0.1,IP:$node_address,IP:$service_of_api,DNS:localhost"
for suffix in "" .default .default.svc .default.svc.cluster.local; do names="$names,DNS:kubernetes$suffix"; done
pki_leaf apiserver /CN=kube-apiserver "$names"
pki_leaf to-kubelet /O=system:masters/CN=kube-apiserver
pki_leaf admin /O=system:masters/CN=admin
pki_leaf coredns /O=system:masters/CN=coredns
pki_leaf kubelet "/O=system:nodes/CN=system:node:$name" "DNS:$name,IP:$node_address"
pki_leaf controller-manager /CN=system:kube-controller-manager
pki_leaf scheduler /CN=system:kube-scheduler
pki_leaf kube-proxy /CN=system:kube-proxy
for file in kubelet controller-manager scheduler kube-proxy coredns; do
    pki_kubeconfig "$file" "$node/pki/$file.kubeconfig"
done
pki_kubeconfig admin "$node/kubeconfig"

# === the place ===

# Its mounts are nobody else's and go when its last process does. /run,
# /var/log and /var/lib are its own: several nodes, and this machine, would
# share what lies there.
gcc -static -Os -o "$node/pause" "$here/pause.c"
mkdir "$node"/{var-lib,var-lib-work}
cat >"$node/place.sh" <<PLACE
set -e
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/log
# Where that is not possible, empty directories stay behind.
case $node/ in
/var/lib/*) ;;
*) mount -t overlay -o lowerdir=/var/lib,upperdir=$node/var-lib,workdir=$node/var-lib-work overlay /var/lib || true ;;
esac
touch $node/run/placed
exec $node/pause
PLACE
enter=(nsenter --net="/run/netns/$name" unshare --mount --propagation private)
unit place "[ -e $(quoted "$node/run/placed") ]" sh "$node/place.sh"
unit_start place
unit_ready place
# Not ip netns exec, which hides the cgroups.
enter=(nsenter --net="/run/netns/$name" --mount="/proc/$(unit_pid place)/ns/mnt" --wd="$node")

# === control plane ===

# answers URL: a check from where the node is.
answers() { quoted nsenter --net="/run/netns/$name" curl -fsSk --max-time 2 "$1"; }

unit etcd "$(answers http://127.0.0.1:2379/readyz)" "$(part etcd)" --data-dir etcd --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --log-level warn
unit apiserver "$(quoted "$(part kubectl)" --kubeconfig "$node/kubeconfig" get --raw /readyz)" \
    "$(part kube-apiserver)" --etcd-servers=http://127.0.0.1:2379 --advertise-address="$node_address" \
    --secure-port=6443 --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key \
    --client-ca-file=pki/ca.crt --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --kubelet-client-certificate=pki/to-kubelet.crt --kubelet-client-key=pki/to-kubelet.key \
    --kubelet-certificate-authority=pki/ca.crt --kubelet-preferred-address-types=InternalIP \
    --service-cluster-ip-range="$service_range" --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=pki/sa.pub --service-account-signing-key-file=pki/sa.key
unit controller-manager "$(answers https://127.0.0.1:10257/healthz)" "$(part kube-controller-manager)" \
    --kubeconfig=pki/controller-manager.kubeconfig --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt \
    --cluster-signing-cert-file=pki/ca.crt --cluster-signing-key-file=pki/ca.key
unit scheduler "$(answers https://127.0.0.1:10259/healthz)" "$(part kube-scheduler)" \
    --kubeconfig=pki/scheduler.kubeconfig --leader-elect=false

# === what runs pods ===

. "$here/node.sh"

# All at once, in the order in which they wait for each other.
for name_of_unit in etcd containerd; do unit_start "$name_of_unit"; done
unit_ready etcd
unit_start apiserver
unit_ready containerd
import_pause
unit_ready apiserver
rest="controller-manager scheduler kubelet kube-proxy coredns"
for name_of_unit in $rest; do unit_start "$name_of_unit"; done
for name_of_unit in $rest; do unit_ready "$name_of_unit"; done

node_ready() {
    "$(part kubectl)" --kubeconfig "$node/kubeconfig" wait --for=condition=Ready --timeout=2s "node/$name"
}
# Pods are refused as long as there is no account for them to run as.
account_ready() { "$(part kubectl)" --kubeconfig "$node/kubeconfig" get serviceaccount default; }
until_true "$ready_patience" node_ready || { say_log kubelet; fail "the node $name does not become Ready"; }
until_true "$ready_patience" account_ready ||
    { say_log controller-manager; fail "there is no ServiceAccount in the namespace default of $name"; }
echo "$node/kubeconfig"
