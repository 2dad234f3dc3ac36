"""How many threads the numeric libraries may use, and how these wait for each other.

Importing ``hidvae`` calls ``set_thread_environment``, before torch can be imported: an OpenMP
runtime reads its variables when it is loaded. Command line, server, batch workers and scripts all
begin with that import, and processes that they start inherit the variables.

Without this, a container that may use one core of a host of 64 would run 64 threads, and on a
busy machine a thread would spin for milliseconds waiting for one that does not have a core.

Reproducibility: how many threads there are decides where long sums are cut, so the last bits of a
training depend on it; how they wait changes no number. Without a quota the count is left to torch,
which takes the cores of this process, so results there are what they were.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

_SPINS = 3_000
"""Looks at a waiting thread's signal before it sleeps, about 0.1 ms: longer than most gaps between
two operators of a training, and short beside the milliseconds that a busy neighbour holds a core.
GNU's runtime takes 300,000. Alone, 300 to 30,000 cost nothing; beside one busy process 30,000
take half as long again (docs/journal.md)."""
_BLOCK_TIME = "1"
"""The same for LLVM's and Intel's runtimes, in milliseconds, of which they take whole ones. They
take 200 by default."""
_PROCESS = Path("/proc/self")


def set_thread_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what the user has not set, unless torch is there already and would not see it.

    ``OMP_NUM_THREADS`` is set where a quota allows less than the cores of this process. For the
    wait, PyTorch's Linux wheels bring GNU's OpenMP, which reads ``GOMP_SPINCOUNT``; macOS and conda
    builds bring LLVM's or Intel's, which read ``KMP_BLOCKTIME``. Each ignores the other's variable.
    """
    if "torch" in sys.modules:
        return
    cores = usable_cores()
    if cores < _own_cores():
        environment.setdefault("OMP_NUM_THREADS", str(cores))
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(_SPINS))
        environment.setdefault("KMP_BLOCKTIME", _BLOCK_TIME)


def usable_cores(process: Path = _PROCESS) -> int:
    """Cores that this process may use at once: its affinity, and the quota of its cgroup.

    A part of a core counts as one: threads that all wait out the rest of a period still share it.

    Args:
        process: ``/proc/self``, where there is one.
    """
    quota = cpu_quota(process)
    own = _own_cores()
    return own if quota is None else max(1, min(own, math.ceil(quota)))


def cpu_quota(process: Path = _PROCESS) -> float | None:
    """Cores' worth of time that this process's cgroup and those around it allow; None is no limit.

    Reads version 2 (``cpu.max``) and version 1 (``cpu.cfs_quota_us``). What cannot be read sets no
    limit: a wrong guess only costs speed.

    Args:
        process: ``/proc/self``, where there is one.
    """
    quotas = [
        quota for folder in cgroup_folders(process) if (quota := _quota_of(folder)) is not None
    ]
    return min(quotas, default=None)


def _own_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_folders(process: Path = _PROCESS) -> Iterator[Path]:
    """Folders of the cgroups that a process is in, of both versions, each with those around it.

    Args:
        process: ``/proc/self``, where there is one.
    """
    try:
        memberships = (process / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    paths = {}
    for line in memberships:  # hierarchy:controllers:path, without controllers in version 2
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = path
    for line in mounts:  # … root mount-point … - type source options
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind not in paths or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        root, mounted = left.split(" ")[3:5]
        top = Path(mounted)
        try:
            inner = Path(paths[kind]).relative_to(root)
        except ValueError:  # a container sees its own cgroup as the top
            inner = Path()
        yield from (top / inner, *(top / above for above in inner.parents))


def _quota_of(cgroup: Path) -> float | None:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = [word for name in names for word in (cgroup / name).read_text().split()]
            quota, period = (math.inf if word == "max" else int(word) for word in words)
        except (OSError, ValueError):
            continue
        if 0 < quota < math.inf and period > 0:  # version 1 writes -1 for none
            return quota / period
    return None
