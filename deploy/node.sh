#!/usr/bin/env bash
# What is done on a node of a cluster. The cluster files call `setup`, `head` and `worker`; deploy/cluster.sh the rest.
#
#   setup EXTRAS cpu|cuda    makes ~/dreamer/.venv with the project's own pins (pyproject.toml), once per version of them;
#                            an environment that is there already is used: ln -s /opt/dreamer-venv ~/dreamer/.venv
#   head OPTIONS             (re)starts Ray's head; OPTIONS as of `ray start`
#   worker OPTIONS           (re)starts Ray here and joins $RAY_HEAD_IP, which `ray up` and the autoscaler set
#   train ARGS               starts training in the background; refuses while one runs
#   status | stop | busy     nodes and progress | save and end | 0 if training runs
#   release                  on the head of machines of one's own: ends Ray on the workers; leave: here
set -euo pipefail
cd "$HOME/dreamer"
. deploy/env.sh
PORT=6379
LOG=train.log      # what training says, from its start
PID=train.pid      # its process number
LIBRARIES="libgl1 libglib2.0-0"
LOCK=train.lock    # locked by the training process itself: free as soon as it has ended, however it ended
TORCH_CPU=https://download.pytorch.org/whl/cpu/
REACH='import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)'
START_SECONDS=90   # that it may take to begin; only then is it left alone
STOP_SECONDS=300   # that it may take to save

complain() { echo "error: $*" >&2; exit 2; }

setup() {
    local extras=$1 kind=$2 stamp
    grep -qs dreamer/deploy/env.sh ~/.bashrc || echo '. ~/dreamer/deploy/env.sh' >> ~/.bashrc
    if [ -L .venv ]; then
        echo "the environment is there already: .venv -> $(readlink .venv)"
        need_libraries
        return
    fi
    stamp=$(echo "$extras $kind" | cat - pyproject.toml | sha256sum)
    [ "$(cat .venv/.installed 2>/dev/null)" = "$stamp" ] && return
    [ -x .venv/bin/pip ] || make_venv  # else only what has changed is installed, under whatever runs
    # A worker has no GPU: the CPU build of the same torch is much smaller. Where only a mirror is reached, pip would ask
    # for it in vain once for every package.
    if [ "$kind" = cpu ] && .venv/bin/python -c "$REACH" "$TORCH_CPU" 2> /dev/null; then
        export PIP_EXTRA_INDEX_URL=$TORCH_CPU
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
    need_libraries
    echo "$stamp" > .venv/.installed
}

make_venv() {  # of Python 3.11, the newest that Reverb has wheels for
    rm -rf .venv  # a broken one
    if command -v python3.11 > /dev/null; then
        python3.11 -m venv .venv
    else  # an image with another Python
        python3 -m venv ~/.uv 2> /dev/null || {
            system_packages python3-venv
            python3 -m venv ~/.uv
        }
        ~/.uv/bin/pip install --quiet uv==0.13.9
        ~/.uv/bin/uv venv --quiet --seed --python 3.11 .venv
    fi
}

opencv_loads() { .venv/bin/python -c "import cv2"; }

need_libraries() {  # of the system, which OpenCV loads for windows that nobody opens here, and which a server lacks
    opencv_loads 2> /dev/null && return
    # shellcheck disable=SC2086  # two names
    system_packages $LIBRARIES > /dev/null 2>&1 || true
    opencv_loads 2> /dev/null ||
        complain "OpenCV does not load ($(opencv_loads 2>&1 | tail -n 1)): apt-get install $LIBRARIES"
}

system_packages() {  # a new machine installs updates of its own at first
    sudo -n apt-get -qq -o DPkg::Lock::Timeout=300 update
    sudo -n env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y \
        --no-install-recommends "$@"
}

start_ray() {
    ray stop > /dev/null || true
    ulimit -n 65536 2> /dev/null || true
    # No log monitor: nobody reads what it sends, and it would outlive `ray down` on a worker.
    ray start --object-manager-port=8076 --node-manager-port=8077 --include-log-monitor=false "$@"
}

head_node() {
    mkdir -p runs
    # No dashboard: it would be one more port, and what it shows is in Grafana and in `status`.
    start_ray --head --port=$PORT --include-dashboard=false "$@"
}

worker_node() { start_ray --address="$RAY_HEAD_IP:$PORT" "$@"; }

busy() { ! flock --nonblock "$LOCK" true; }

train() {
    exec 9> "$LOCK"
    flock --nonblock 9 || complain "training runs already (process $(cat $PID)): make cluster-stop ends it"
    # In a session of its own, so that no terminal takes it with it; descriptor 9 is the lock.
    setsid nohup python -m cluster train --runtime ray --cluster.address auto "$@" < /dev/null > "$LOG" 2>&1 &
    local process=$! second
    echo "$process" > "$PID"
    exec 9>&-
    for ((second = 0; second < START_SECONDS; second++)); do
        if ! busy; then  # at an end already
            cat "$LOG"
            wait "$process" && return
            complain "training did not begin"
        fi
        grep -q 'going on from\|^metrics ' "$LOG" && break
        sleep 1
    done
    cat "$LOG"
    echo "training runs as process $process, whatever becomes of this terminal: make cluster-status, make cluster-stop"
}

run_dir() { sed -n 's/^run directory //p;T;q' "$LOG" 2> /dev/null; }

status() {
    ray status 2>&1 || true
    if busy; then echo "training runs as process $(cat $PID)"; else echo "no training runs"; fi
    [ -z "$(run_dir)" ] || python -m cluster status "$(run_dir)" 2> /dev/null || tail -n 5 "$LOG"
}

stop() {
    busy || { echo "no training runs"; return; }
    kill -TERM "$(cat "$PID")"
    flock --wait "$STOP_SECONDS" "$LOCK" true ||
        complain "process $(cat "$PID") has not saved within $STOP_SECONDS s; it is left running"
    tail -n 2 "$LOG"
}

leave() { ray stop > /dev/null; }

# `ray down` leaves such workers to find out by themselves, which takes two minutes. A cloud's machines are ended anyway.
release() {
    local worker
    for worker in $(python -c "$WORKERS"); do
        # shellcheck disable=SC2088  # the tilde is for the worker
        ssh -n -i ~/ray_bootstrap_key.pem -o BatchMode=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=no \
            -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$worker" 'bash ~/dreamer/deploy/node.sh leave' ||
            echo "warning: Ray may still run at $worker" &
    done
    wait
}
WORKERS='
import os, yaml
config = yaml.safe_load(open(os.path.expanduser("~/ray_bootstrap_config.yaml")))
if config["provider"]["type"] == "local":
    print(*(config["auth"]["ssh_user"] + "@" + address for address in config["provider"]["worker_ips"]))'

command=${1:?setup, head, worker, train, status, stop or busy}
shift
case $command in
    head | worker) "${command}_node" "$@" ;;
    setup | train | status | stop | busy | release | leave) "$command" "$@" ;;
    *) complain "unknown: $command" ;;
esac
