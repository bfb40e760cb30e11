"""Start a Ray cluster of two hosts on this machine: each has a network and a name of its own. Linux only.

Nothing outside this machine can reach it: the namespaces have a loopback and a line to each other, and no more.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.kit.process_tree import descendants, is_running

IPS = ("10.77.0.1", "10.77.0.2")
PORT = 6379
ADDRESS = f"{IPS[0]}:{PORT}"
START_SECONDS = 90.0
OBJECT_STORE_BYTES = 300_000_000
RAY = "from ray.scripts.scripts import main; main()"
HOSTS = """
hostname graftline-one
ip link set lo up
exec 3<&0
unshare --net --uts sh -c 'hostname graftline-two; exec cat <&3' >&2 &
second=$!
while [ "$(readlink /proc/$second/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
ip link add one type veth peer name two
ip link set two netns $second
ip addr add 10.77.0.1/24 dev one
ip link set one up
nsenter --net --target $second sh -c 'ip link set lo up; ip addr add 10.77.0.2/24 dev two; ip link set two up'
echo $$ $second
exec cat >&2
"""
QUIET = {
    "RAY_AUTH_MODE": "disabled",  # else a token in the user's home decides
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass
class Cluster:
    """A cluster of two hosts, by number 0 and 1, and the nodes of Ray that run on them."""

    pids: tuple[int, int]  # of a process in each host's namespaces
    folder: Path  # of Ray's own files; sockets lie in it, so its path must be short
    nodes: dict[int, subprocess.Popen[str]] = field(default_factory=dict)

    def on(self, host: int, command: Sequence[str | Path]) -> list[str | Path]:
        """Return the command that runs a command on a host."""
        enter = ["nsenter", "--user", "--net", "--uts", "--preserve-credentials", "--target", str(self.pids[host])]
        return [*enter, *command]

    def run(self, command: Sequence[str | Path], **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on the first host to its end."""
        return subprocess.run(self.on(0, command), text=True, capture_output=True, check=False, **settings)

    def start(
        self, host: int, *, script: str = RAY, core: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the node of a host, of one core; host 0 is the head. Return when the cluster knows it.

        With `core` all its processes stay on that core of this machine. `environment` is added to that of this process.
        """
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        place = ["--head", f"--port={PORT}", "--include-dashboard=false"] if host == 0 else [f"--address={ADDRESS}"]
        if host == 0:
            place += [f"--temp-dir={self.folder}"]
        options = [
            f"--node-ip-address={IPS[host]}", "--num-cpus=1", f"--object-store-memory={OBJECT_STORE_BYTES}",
            "--disable-usage-stats", "--block",
        ]  # fmt: skip
        log = self.folder.parent / f"node-{host}.log"
        with log.open("w", encoding="utf-8") as file:
            self.nodes[host] = subprocess.Popen(
                self.on(host, [*pinned, sys.executable, "-c", script, "start", *place, *options]),
                env=os.environ | QUIET | dict(environment or {}), stdout=file, stderr=file, text=True,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while "block forever" not in log.read_text("utf-8"):
            if time.monotonic() > deadline or self.nodes[host].poll() is not None:
                raise RuntimeError(f"the Ray node {host} did not start: {log.read_text('utf-8')[-2000:]}")
            time.sleep(0.2)

    def workers(self, host: int, name: str = "ray::MapBatches") -> list[int]:
        """Return the processes of a host that work at a task of this name in Ray."""
        commands = descendants(self.nodes[host].pid).items()
        # Ray's own agents are called ray::… too; a node ends with them
        return [pid for pid, command in commands if command.startswith(name)]

    def kill(self, host: int) -> None:
        """Kill the node of a host at once, as a power cut does."""
        node = self.nodes.pop(host)
        pids = [node.pid, *descendants(node.pid)]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        node.wait()
        while any(map(is_running, pids)):
            time.sleep(0.05)


@contextmanager
def two_hosts(folder: Path) -> Iterator[Cluster]:
    """Yield a cluster without nodes; those that were started are killed at the end.

    Args:
        folder: of the cluster's files, with a short path.

    Raises:
        RuntimeError: this machine does not allow namespaces.
    """
    command = ["unshare", "--user", "--map-root-user", "--net", "--uts", "sh", "-c", HOSTS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hosts:
        assert hosts.stdin is not None
        assert hosts.stdout is not None
        pids = hosts.stdout.readline().split()
        if len(pids) != 2:
            raise RuntimeError("this machine lets nobody make network namespaces, which two hosts need")
        cluster = Cluster(pids=(int(pids[0]), int(pids[1])), folder=folder / "ray")
        cluster.folder.mkdir()
        try:
            yield cluster
        finally:
            for host in sorted(cluster.nodes, reverse=True):
                cluster.kill(host)
            hosts.stdin.close()  # both hosts end with it
