# For run.sh and kube-run.sh, to be sourced: directories of runs, one for each,
# which the next run clears away if their own could not.
#
# clear_node NAME DIR is what removes one node of a run.

# kubectl and helm are over before garbage is worth collecting; what stays says
# otherwise (units.sh).
export GOGC=off

run=""

clear_nodes() {
    local node
    for node in "$1"/*/; do
        [ ! -d "$node/units" ] || clear_node "$(basename "$node")" "$1"
    done
}

# run_dir KIND: makes `run`, a directory that is ours as long as we live.
run_dir() {
    local base="${RESTPIPE_CACHE:-$HOME/.cache/restpipe}/runs" old
    mkdir -p "$base"
    for old in "$base/$1".*; do
        [ -e "$old/lock" ] || continue
        # The lock ends with its process, however that one ends.
        (flock --nonblock 8 && clear_nodes "$old" && rm -rf "$old") 8<"$old/lock" || true
    done
    run="$(mktemp -d "$base/$1.XXXXXX")"
    exec {run_lock}>"$run/lock"
    flock "$run_lock"
}

# end_run: for the EXIT trap; RESTPIPE_KEEP leaves everything as it is.
end_run() {
    local status=$?
    # Of a suite that is skipped the last line is the reason.
    [ "$status" != "$SKIP" ] || phase_name=""
    if [ -n "$run" ] && [ -n "${RESTPIPE_KEEP:-}" ]; then
        phase
        # Without it, no later run takes this one for a dead one.
        rm -f "$run/lock"
        echo "left as it is: $run; it goes by RESTPIPE_CLEAR=$run $0"
    elif [ -n "$run" ]; then
        phase "teardown"
        clear_nodes "$run"
        rm -rf "$run"
        [ "$status" = "$SKIP" ] || phase
    else
        phase
    fi
    exit "$status"
}
trap end_run EXIT
trap 'exit 130' INT TERM

# phase WORD…: says how long the phase before took.
phase_name="" phase_start=$SECONDS
phase() {
    [ -z "$phase_name" ] || echo "=== $phase_name: $((SECONDS - phase_start)) s"
    phase_name="$*" phase_start=$SECONDS
}

# What RESTPIPE_KEEP has left.
if [ -n "${RESTPIPE_CLEAR:-}" ]; then
    clear_nodes "$RESTPIPE_CLEAR"
    rm -rf "${RESTPIPE_CLEAR:?}"
    exit
fi
