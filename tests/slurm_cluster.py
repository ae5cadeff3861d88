"""A real Slurm on this machine, without systemd: one controller, one node, one partition, in a temporary folder."""

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5  # a requeued job waits as long as its credential lives
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
KillWait=5
NodeName={node} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Why there can be no Slurm here, or nothing. Installs it where PATCHUP_TEST_INSTALL_SLURM=1 allows that."""
    if os.geteuid():
        return "starting a Slurm takes root"
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if all(map(shutil.which, PROGRAMS)):
        return None
    if os.environ.get("PATCHUP_TEST_INSTALL_SLURM") != "1":
        return "Slurm is not installed; PATCHUP_TEST_INSTALL_SLURM=1 installs it by apt-get"
    for command in ("update", "install -y slurm-wlm munge"):
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *command.split()]
        done = subprocess.run(apt, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, capture_output=True)
        if done.returncode:
            return f"apt-get {command} failed: {done.stderr.decode().strip()[-200:]}"
    return None


@contextlib.contextmanager
def cluster(folder):
    """Within it Slurm runs, with all its files in folder, and SLURM_CONF names its configuration."""
    folder, node = Path(folder), platform.node().partition(".")[0]
    ports = dict(zip(("controller_port", "node_port"), free_ports(2)))
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, node=node, cpus=max(2, os.cpu_count()), **ports))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    files = {"socket": "socket", "key": "key-file", "pid": "pid-file", "log": "log-file", "seed": "seed-file"}
    munged = ["munged", "--force", *(f"--{option}={folder}/munge.{name}" for name, option in files.items())]
    os.environ["SLURM_CONF"] = str(configuration)
    try:
        for command in (munged, ["slurmctld"], ["slurmd"]):
            subprocess.run(command, check=True, timeout=60, capture_output=True)
        until(lambda: "idle" in output("sinfo", "--noheader", "--format=%T"), 60, "the node to be idle")
        yield
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            output("scancel", "--signal=KILL", f"--user={os.geteuid()}")
            output("scancel", f"--user={os.geteuid()}")
            until(lambda: not output("squeue", "--noheader"), 30, "the queue to be empty")
        for name in ("slurmd", "slurmctld", "munge"):
            stop(folder / f"{name}.pid")
        del os.environ["SLURM_CONF"]


def free_ports(count):
    """Ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def output(*command):
    """What a command prints. Raises subprocess.SubprocessError where it fails or hangs."""
    return subprocess.run(command, check=True, timeout=120, capture_output=True, text=True).stdout.strip()


def until(condition, seconds, what):
    """Wait for condition() to be true, and return it. Raises subprocess.TimeoutExpired after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(f"waiting for {what}", seconds)
        time.sleep(0.1)
    return value


def stop(pid_file):
    """End the daemon that wrote its process number to a file, if it did, and wait until it is gone."""
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
