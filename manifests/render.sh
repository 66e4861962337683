#!/usr/bin/env bash
# Renders install.yaml from charts/restpipe with its default values, for those
# who install without Helm.
#
#   manifests/render.sh             writes manifests/install.yaml
#   manifests/render.sh --stdout    prints it
#
# HELM names a helm 4, if `helm` is none.
set -euo pipefail
cd "$(dirname "$0")/.."

helm="${HELM:-helm}"
release=restpipe
namespace=restpipe-system
# The oldest that the chart takes: what is rendered must not depend on helm's own.
kubernetes=1.33.0

render() {
    cat <<END
# RestPipe in namespace $namespace, made by \`make manifests\`: change charts/restpipe instead.
#
#   kubectl apply -f install.yaml
#
# Deleting it deletes the kinds too, with all servers, links and their CAs:
#
#   kubectl delete -f install.yaml
---
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  labels:
    app.kubernetes.io/name: restpipe
    app.kubernetes.io/part-of: restpipe
    pod-security.kubernetes.io/enforce: restricted
END
    # No helm owns these objects.
    "$helm" template "$release" charts/restpipe --namespace "$namespace" \
        --kube-version "$kubernetes" --skip-tests --no-hooks |
        sed -e '/^ *app.kubernetes.io\/managed-by: Helm$/d' -e '/^ *helm.sh\/chart: /d'
}

if [ "${1:-}" = --stdout ]; then
    render
else
    # Nothing is written where helm fails.
    rendered="$(render)"
    printf '%s\n' "$rendered" >manifests/install.yaml
fi
