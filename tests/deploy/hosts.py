"""Several hosts on this machine, made of nothing but namespaces: as root, in a second, and gone with the process.

Every host has a network, file systems, processes and a name of its own and runs sshd as its first process, as a rented
machine would. They share the disk (so the code and its environment are there already), but not /tmp, /root, /run and
/dev/shm. A bridge in a namespace that belongs to nobody joins them; nothing leads out to the machine's own network.

Everything ends with the process that called `up`, also when that is killed: the kernel ends each host's first process,
and with it all others of the host, its mounts and its link.

    with up(["launcher", "head", "worker1"]) as hosts:
        run(hosts["launcher"], "ssh head hostname")
        cut(hosts["worker1"])                               # the cable is out
        mend(hosts["worker1"])
        print(pids(hosts["head"]))                          # {pid on this machine: its command line}
        (hosts["head"].root / "root/x").read_text()         # the host's own /root/x
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.cluster.tiny import ROOT, wait_for

TOOLS = {  # program -> Debian package
    "ip": "iproute2",
    "ss": "iproute2",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
NETWORK = "10.77.0."
OWN = ("/tmp", "/root", "/run", "/dev/shm")  # every host has its own: Ray, sshd and `ray up` write there
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# `--kill-child` and `--pdeathsig`: whoever dies, all below die too.
UNSHARE = "setpriv --pdeathsig KILL unshare --kill-child --fork"
SSHD = "\n".join(  # sshd_config
    [
        "Port 22",
        "LogLevel QUIET",
        "HostKey /run/host_key",
        "PidFile none",
        "UsePAM no",
        "StrictModes no",
        "PermitRootLogin prohibit-password",
    ]
)
SSH = "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"


class Host(NamedTuple):
    """One of them."""

    name: str
    address: str
    pid: int  # of its first process, sshd, as this machine counts
    hub: int  # process in whose network the bridge is
    port: str  # name of the host's cable at the bridge

    @property
    def root(self) -> Path:
        """Its file system, seen from this machine: root / "tmp" is the host's own /tmp."""
        return Path(f"/proc/{self.pid}/root")


Hosts = dict[str, Host]


def missing() -> str:
    """Why hosts cannot be made here; "" if they can."""
    if os.geteuid() != 0:
        return "hosts of namespaces need root"
    path = f"{os.environ.get('PATH', '')}:{PATH}"
    lacking = {package for tool, package in TOOLS.items() if not shutil.which(tool, path=path)}
    if lacking:
        return f"apt-get install {' '.join(sorted(lacking))}"
    allowed = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return "" if allowed.returncode == 0 else "this root may not make namespaces"


@contextmanager
def up(names: list[str]) -> Iterator[Hosts]:
    """Starts the hosts; each may ssh to each as root. They end with the block."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        hub = _start(f"{UNSHARE} --net sleep infinity", started)
        _ip(hub, "link add bridge type bridge", "link set bridge up", "link set lo up")
        table = "".join(f"{NETWORK}{n} {name}\n" for n, name in enumerate(names, start=1))
        hosts = {}
        for n, name in enumerate(names, start=1):
            script = _first_script(name, f"127.0.0.1 localhost\n{table}")
            kinds = "--net --mount --pid --uts --ipc --mount-proc"
            pid = _start(f"{UNSHARE} {kinds} bash -ceu {shlex.quote(script)}", started)
            host = Host(name, f"{NETWORK}{n}", pid, hub, port=f"port{n}")
            _plug_in(host)
            hosts[name] = host
        for host in hosts.values():
            wait_for(f"sshd of {host.name}", lambda host=host: _command_line(host.pid).startswith("sshd"), seconds=30)
        _trust(list(hosts.values()))
        yield hosts
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def run(host: Host, command: str, *, seconds: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A bash command on the host. What it printed is part of the error if it fails."""
    done = subprocess.run(enter(host, command), capture_output=True, text=True, timeout=seconds, check=False)
    if check and done.returncode:
        raise AssertionError(f"on {host.name}: {command}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def enter(host: Host, command: str) -> list[str]:
    """The arguments that run a bash command on the host, for a Popen of one's own. Its folder is the repository."""
    environment = {"HOME": "/root", "PATH": PATH, "PYTHONPATH": str(ROOT), "TERM": "dumb", "USER": "root"}
    given = [f"{key}={value}" for key, value in environment.items()]
    inside = ["nsenter", "--target", str(host.pid), "--all", f"--wdns={ROOT}", "env", "-i", *given]
    return [*inside, "bash", "-c", command]


def cut(host: Host) -> None:
    """Takes the host's cable out."""
    _ip(host.hub, f"link set {host.port} down")


def mend(host: Host) -> None:
    """Puts it back."""
    _ip(host.hub, f"link set {host.port} up")


def pids(host: Host) -> dict[int, str]:
    """Process number on this machine -> command line, of all that run on the host but its sshd."""
    space = os.readlink(f"/proc/{host.pid}/ns/pid")
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns/pid") == space and (line := _command_line(int(entry.name))):
                found[int(entry.name)] = line
        except OSError:  # it has just ended
            continue
    return {pid: line for pid, line in found.items() if not line.startswith("sshd")}


# --- How it is done ---


def _start(command: str, started: list[subprocess.Popen[bytes]]) -> int:
    """Starts `setpriv unshare ...` and returns the number of the process inside."""
    process = subprocess.Popen(shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    started.append(process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def child() -> int:
        assert process.poll() is None, f"ended with exit code {process.returncode}: {command}"
        return int((children.read_text().split() or ["0"])[0])

    return wait_for("a namespace", child, seconds=30)


def _first_script(name: str, hosts: str) -> str:
    """What a host does before it becomes sshd: own folders, but what the code and its Python need shows through."""
    keep = [path for path in (str(ROOT), sys.prefix, sys.base_prefix) if path.startswith(tuple(f"{o}/" for o in OWN))]
    lines = ["mount -t tmpfs none /mnt"]
    lines += [f"mkdir /mnt/{n}; mount --bind {path} /mnt/{n}" for n, path in enumerate(keep)]
    lines += [f"mount -t tmpfs none {own}" for own in OWN]
    lines += [f"mkdir -p {path}; mount --bind /mnt/{n} {path}" for n, path in enumerate(keep)]
    files = {
        "/etc/hosts": hosts,
        "/etc/shadow": "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n",  # a locked root could not log in by key
        "/etc/resolv.conf": "",
    }
    for path, text in files.items():
        own = f"/run/{Path(path).name}"
        lines += [f"printf %s {shlex.quote(text)} > {own}; mount --bind {own} {path}"]
    lines += [f"hostname {name}", "chmod 1777 /tmp /dev/shm", "mkdir -p /run/sshd /root/.ssh", "chmod 700 /root"]
    lines += ["cp -n /etc/skel/.profile /etc/skel/.bashrc /root/ || true"]
    lines += [f"printf %s {shlex.quote(SSHD)} > /run/sshd_config; printf %s {shlex.quote(SSH)} > /root/.ssh/config"]
    lines += [
        "ssh-keygen -q -t ed25519 -N '' -f /run/host_key; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519"
    ]
    lines += ["exec /usr/sbin/sshd -D -f /run/sshd_config"]
    return f"export PATH={PATH}\n" + "\n".join(lines)


def _plug_in(host: Host) -> None:
    _ip(
        host.hub,
        f"link add {host.port} type veth peer name eth0 netns {host.pid}",
        f"link set {host.port} master bridge up",
    )
    _ip(host.pid, "link set lo up", f"addr add {host.address}/24 dev eth0", "link set eth0 up")


def _ip(pid: int, *commands: str) -> None:
    """`ip` commands in the network of a process."""
    for command in commands:
        subprocess.run(["nsenter", "--target", str(pid), "--net", "ip", *command.split()], check=True)


def _trust(hosts: list[Host]) -> None:
    keys = "".join((host.root / "root/.ssh/id_ed25519.pub").read_text() for host in hosts)
    for host in hosts:
        (host.root / "root/.ssh/authorized_keys").write_text(keys)


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def wait_gone(numbers: list[int], *, seconds: float = 30) -> list[int]:
    """Those of the processes that still run after so long."""
    deadline = time.monotonic() + seconds
    while (left := [n for n in numbers if Path(f"/proc/{n}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
