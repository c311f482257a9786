# shellcheck shell=bash
# What every shell and every Ray process on a node must know; deploy/node.sh makes ~/.bashrc read it.
export PATH="$HOME/dreamer/.venv/bin:$PATH"
# Whoever talks to Ray shows the token in ~/.ray/auth_token, which `make cluster-up` makes and copies to the nodes.
export RAY_AUTH_MODE=token
# Ray tells its makers about its use unless told otherwise.
export RAY_USAGE_STATS_ENABLED=0
