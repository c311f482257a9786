#!/usr/bin/env bash
# Prometheus and Alertmanager from Debian or Ubuntu, as programs to be started by hand (make monitor), not as services.
set -euo pipefail
missing=""
for program in prometheus promtool prometheus-alertmanager amtool; do
    command -v "$program" > /dev/null || missing="$missing $program"
done
if [ -z "$missing" ]; then exit 0; fi
if ! command -v apt-get > /dev/null; then
    echo "error: no apt-get here: put$missing on PATH, see https://prometheus.io/download" >&2
    exit 2
fi
sudo=""
if [ "$(id -u)" != 0 ]; then sudo=sudo; fi
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    prometheus prometheus-alertmanager
# Where systemd runs, the packages have just started them on the ports that ours need.
if [ -d /run/systemd/system ]; then $sudo systemctl disable --now prometheus prometheus-alertmanager; fi
