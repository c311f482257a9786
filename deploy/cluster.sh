#!/usr/bin/env bash
# The verbs of `make cluster-...`, on the machine that you sit at. What is done on the nodes is in deploy/node.sh.
#
#   up [ray up's OPTIONS]   starts or updates the cluster of $CLUSTER; never under a training that runs
#   train [ARGS]            starts training on its head, in the background; ARGS as of `python -m cluster train`
#   status                  nodes and progress                    stop    save and end training
#   fetch                   copies its runs to ours              down    stop, fetch, and end the cluster
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
CLUSTER=${CLUSTER:-deploy/cluster.yaml}
RAY=${RAY:-.venv/bin/ray}
RUNS=${RUNS:-runs}  # where fetched runs go
export RAY_USAGE_STATS_ENABLED=0
TOKEN=~/.ray/auth_token

complain() { echo "error: $*" >&2; exit 2; }

on_head() {  # VERB ARGS...: the same words over there, whatever is in them; its exit code is the one from there
    local words
    printf -v words ' %q' "$@"
    "$RAY" exec --log-style=record "$CLUSTER" "bash ~/dreamer/deploy/node.sh$words; echo node-exit-code=\$?" 2>&1 |
        awk "$QUIET"
}

# Leaves out what Ray says about itself. Without the last line from over there (no ssh, no cluster) it has failed.
QUIET='
    { sub(/\r$/, "") }
    /^[0-9-]+ [0-9:,]+\tV*(INFO|WARN)/ || /To ensure this mount updates/ || /^$/ { next }
    sub(/^.*node-exit-code=/, "") { code = $0; known = 1; next }
    { print; fflush() }
    END { exit known ? code : 1 }'

check_file() {
    [ -f "$CLUSTER" ] || complain "there is no cluster file $CLUSTER: CLUSTER=deploy/cluster-gcp.yaml, for one"
    local blank
    blank=$(grep -nm1 '^[^#]*FILL-IN' "$CLUSTER" || true)
    [ -z "$blank" ] || complain "$CLUSTER, line ${blank%%:*}: fill in what only you know; docs/cluster.md says how"
}

up() {
    if [ ! -s "$TOKEN" ]; then  # who has it may run anything on the cluster: only the owner may read it
        (umask 077; mkdir -p ~/.ray; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$TOKEN")
    fi
    chmod 600 "$TOKEN"
    local keep=()
    if on_head busy > /dev/null 2>&1; then
        echo "training runs: Ray is not restarted (--no-restart); new code is for the next training"
        keep=(--no-restart)
    fi
    "$RAY" up --yes "${keep[@]}" "$@" "$CLUSTER"
}

fetch() {
    mkdir -p "$RUNS"
    # shellcheck disable=SC2088  # the first tilde is for the head
    "$RAY" rsync-down "$CLUSTER" '~/dreamer/runs/' "$RUNS/"
}

down() {
    local bare="$RAY down $CLUSTER"
    on_head stop || complain "training could not be stopped, so the cluster goes on (and costs); as it is: $bare"
    fetch || complain "the runs could not be fetched, so the cluster goes on (and costs); without them: $bare"
    on_head release || true
    "$RAY" down --yes "$CLUSTER"
}

verb=${1:?up, train, status, stop, fetch or down}
shift
check_file
case $verb in
    up | fetch | down) "$verb" "$@" ;;
    train | status | stop) on_head "$verb" "$@" ;;
    *) complain "unknown: $verb" ;;
esac
