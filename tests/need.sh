# For suites, to be sourced: `need COMMAND PACKAGE…` installs what they lack.

# Exit status of a suite that cannot run here; its last line says why.
SKIP=77

skip() {
    echo "$*"
    exit "$SKIP"
}

# Installs PACKAGE… with apt-get if there is no COMMAND; skips the suite where
# that cannot be done.
need() {
    local command=$1
    shift
    PATH="$PATH:/usr/sbin:/sbin"
    command -v "$command" >/dev/null && return
    [ "$(id -u)" = 0 ] || skip "there is no $command here, and only root can install it"
    command -v apt-get >/dev/null || skip "there is no $command here, and no apt-get to install it"
    echo "installing $*"
    # RUNLEVEL: a package's service is not to be started.
    local install="env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends"
    $install "$@" || { apt-get update -q && $install "$@"; } ||
        skip "apt-get could not install $*"
    command -v "$command" >/dev/null || skip "$* was installed and there is still no $command"
}
