#!/usr/bin/env bash
# A Kubernetes API without nodes: etcd and kube-apiserver on loopback, for
# tests of what needs no pod that runs. Ready within seconds; needs no root.
#
#   kube.sh up NAME STATE_DIR      prints the directory, STATE_DIR/NAME; in it
#       kubeconfig                 may do everything
#       audit.log                  a line of JSON for every request
#   kube.sh down NAME STATE_DIR    ends and removes it; there being none is fine
#
# ctl.sh stops and starts the two (etcd, apiserver) as it does on a real node.
# There is no garbage collection, no namespace is ever gone, no ServiceAccount
# comes by itself, and no Service leads anywhere: webhooks are named by url.
set -euo pipefail
cd "$(dirname "$0")"
. parts.sh
. units.sh
. pki.sh

[ "$#" = 3 ] || { sed -n '5,8s/^# *//p' "$0" >&2; exit 2; }
action=$1 name=$2
mkdir -p "$3"
node="$(cd "$3" && pwd)/$name"
# Its processes run where we do.
enter=(env)

# Ports between the registered ones and those that connections are given.
port_from=21000
port_count=10000
# Loopback is refused as the address that the API's own Service leads to; this
# one is nobody's.
nowhere=192.0.2.1
# Ports that are tried, if others take them between the look and the start.
tries=5

down() {
    [ -d "$node" ] || return 0
    unit_kill apiserver
    unit_kill etcd
    rm -rf "$node"
}

# A port of 127.0.0.1 on which nobody listens.
free_port() {
    local port
    while :; do
        port=$((port_from + RANDOM % port_count))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

up() {
    local etcd kube_apiserver kubectl try port
    etcd="$(part etcd)" kube_apiserver="$(part kube-apiserver)" kubectl="$(part kubectl)"
    down
    mkdir -p "$node"/{units,ready,run,log}
    pki_ca
    pki_leaf apiserver /CN=kube-apiserver IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc
    pki_leaf admin /O=system:masters/CN=admin

    # Sockets, as etcd shall not be in anybody's way. Their path is the host
    # of the url, and so has to be without a slash.
    unit etcd "[ -S $(quoted "$node/etcd.sock") ]" "$etcd" --data-dir etcd --unsafe-no-fsync --log-level warn \
        --listen-client-urls unix://etcd.sock --advertise-client-urls unix://etcd.sock \
        --listen-peer-urls unix://peer.sock
    cat >"$node/audit.yaml" <<'POLICY'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ["/readyz*", "/livez*", "/healthz*", "/openapi*", "/api*", "/version*"]
- level: None
  users: ["system:apiserver"]
- level: Metadata
POLICY
    unit_start etcd
    unit_ready etcd
    for ((try = 1; ; try++)); do
        port="$(free_port)" apiserver=https://127.0.0.1:$port
        pki_kubeconfig admin "$node/kubeconfig"
        unit apiserver "$(quoted "$kubectl" --kubeconfig "$node/kubeconfig" get --raw /readyz)" \
            "$kube_apiserver" --etcd-servers=unix://etcd.sock --bind-address=127.0.0.1 --secure-port="$port" \
            --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key \
            --client-ca-file=pki/ca.crt --authorization-mode=RBAC \
            --disable-admission-plugins=ServiceAccount --allow-privileged=true \
            --service-cluster-ip-range=10.0.0.0/24 \
            --advertise-address=$nowhere --endpoint-reconciler-type=none \
            --service-account-issuer=https://kubernetes.default.svc \
            --service-account-key-file=pki/sa.pub --service-account-signing-key-file=pki/sa.key \
            --audit-policy-file=audit.yaml --audit-log-path=audit.log --audit-log-mode=blocking
        unit_start apiserver
        ! unit_ready apiserver 2>"$node/log/why" || break
        if [ "$try" = "$tries" ] || ! grep -q 'address already in use' "$node/log/apiserver"; then
            cat "$node/log/why" >&2
            exit 1
        fi
        unit_kill apiserver
        rm -f "$node/log/apiserver"
    done
    echo "$node"
}

case $action in
up) up ;;
down) down ;;
*) fail "there is no $action: there are up and down" ;;
esac
