"""The number of threads and how they wait, chosen before torch is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hidvae import threads
from hidvae.threads import cpu_quota, set_thread_environment, usable_cores

VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SHOW = f"import json, os, hidvae; print(json.dumps([os.environ.get(n) for n in {VARIABLES}]))"


class Process:
    """A ``/proc/self`` and the cgroup file systems that it names."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.cgroup: list[str] = []
        self.mounts = ["21 1 0:20 / /proc rw - proc proc rw"]

    def write(self) -> Path:
        (self.place / "cgroup").write_text("\n".join(self.cgroup) + "\n")
        (self.place / "mountinfo").write_text("\n".join(self.mounts) + "\n")
        return self.place

    def version_2(self, path: str, quotas: dict[str, str], root: str = "/") -> Path:
        """Membership in a unified hierarchy; text of ``cpu.max`` by folder below the mount."""
        mount = self.place / "unified"
        for folder, text in quotas.items():
            (mount / folder).mkdir(parents=True, exist_ok=True)
            (mount / folder / "cpu.max").write_text(f"{text}\n")
        self.cgroup.append(f"0::{path}")
        self.mounts.append(f"30 21 0:26 {root} {mount} rw shared:9 - cgroup2 cgroup2 rw,nsdelegate")
        return self.write()

    def version_1(self, path: str, quotas: dict[str, tuple[int, int]], root: str = "/") -> Path:
        """Membership in the hierarchy of the controller cpu; quota and period by folder."""
        mount = self.place / "cpu,cpuacct"
        for folder, (quota, period) in quotas.items():
            (mount / folder).mkdir(parents=True, exist_ok=True)
            (mount / folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (mount / folder / "cpu.cfs_period_us").write_text(f"{period}\n")
        self.cgroup += [f"4:cpu,cpuacct:{path}", "3:cpuset:/elsewhere", "2:memory:/"]
        self.mounts += [
            f"32 31 0:29 {root} {mount} rw,nosuid - cgroup cgroup rw,cpu,cpuacct",
            f"33 31 0:31 / {self.place / 'cpuset'} rw - cgroup cgroup rw,cpuset",
        ]
        return self.write()


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({"job": "150000 100000"}, 1.5),
        ({"job": "max 100000"}, None),
        ({"job": "max 100000", "": "400000 100000"}, 4.0),
        ({"job": "50000 100000", "": "max 100000"}, 0.5),
        ({"other": "50000 100000"}, None),
        ({"job": ""}, None),
        ({"job": "many 100000"}, None),
        ({"job": "100000 0"}, None),
    ],
)
def test_version_2(process: Process, quotas: dict[str, str], expected: float | None) -> None:
    assert cpu_quota(process.version_2("/job", quotas)) == expected


def test_the_smallest_quota_of_nested_groups_counts(process: Process) -> None:
    quotas = {"a/b/c": "max 100000", "a/b": "300000 100000", "a": "200000 100000", "": "max 1000"}
    assert cpu_quota(process.version_2("/a/b/c", quotas)) == 2.0


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({"docker/1f": (250_000, 100_000)}, 2.5),
        ({"docker/1f": (-1, 100_000)}, None),
        ({"docker/1f": (-1, 100_000), "docker": (100_000, 50_000)}, 2.0),
        ({"docker/1f": (0, 100_000)}, None),
    ],
)
def test_version_1(
    process: Process, quotas: dict[str, tuple[int, int]], expected: float | None
) -> None:
    assert cpu_quota(process.version_1("/docker/1f", quotas)) == expected


def test_a_container_sees_its_own_group_as_the_top(process: Process) -> None:
    found = process.version_1("/docker/1f", {"": (100_000, 100_000)}, root="/docker/1f")
    assert cpu_quota(found) == 1.0


def test_a_membership_from_outside_the_mount_takes_its_top(process: Process) -> None:
    assert cpu_quota(process.version_2("/host/slice", {"": "100000 100000"}, root="/pod")) == 1.0


def test_both_versions_side_by_side(process: Process) -> None:
    process.version_2("/", {"": "max 100000"})
    assert cpu_quota(process.version_1("/", {"": (300_000, 100_000)})) == 3.0


def test_no_quota_where_there_are_no_cgroups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "no such folder") is None


@pytest.mark.parametrize(
    ("quota", "own", "expected"),
    [("50000 100000", 8, 1), ("150000 100000", 8, 2), ("900000 100000", 8, 8), ("max 1", 3, 3)],
)
def test_usable_cores(
    process: Process, monkeypatch: pytest.MonkeyPatch, quota: str, own: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(own)), raising=False)
    assert usable_cores(process.version_2("/", {"": quota})) == expected


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")


def limit_cores(monkeypatch: pytest.MonkeyPatch, usable: int, own: int) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: usable)
    monkeypatch.setattr(threads, "_own_cores", lambda: own)


@pytest.mark.usefixtures("without_torch")
def test_a_quota_limits_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_cores(monkeypatch, usable=2, own=64)
    environment: dict[str, str] = {}
    set_thread_environment(environment)
    assert environment["OMP_NUM_THREADS"] == "2"
    assert {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"} < set(environment)


@pytest.mark.usefixtures("without_torch")
def test_without_a_quota_torch_counts_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_cores(monkeypatch, usable=8, own=8)
    environment: dict[str, str] = {}
    set_thread_environment(environment)
    assert "OMP_NUM_THREADS" not in environment


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    ("own", "unset"),
    [
        ({"OMP_NUM_THREADS": "7"}, set()),
        ({"GOMP_SPINCOUNT": "5"}, set()),
        ({"KMP_BLOCKTIME": "infinite"}, set()),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"}),
    ],
)
def test_what_the_user_has_set_stays(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, str], unset: set[str]
) -> None:
    limit_cores(monkeypatch, usable=2, own=64)
    environment = dict(own)
    set_thread_environment(environment)
    assert environment.items() >= own.items()
    assert not unset & set(environment)


def test_nothing_is_set_once_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    limit_cores(monkeypatch, usable=1, own=64)
    environment: dict[str, str] = {}
    set_thread_environment(environment)
    assert environment == {}


def run_python(code: str, **variables: str) -> str:
    """What a fresh interpreter prints, with none of the variables set but those given."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_import_sets_them_without_torch_and_children_inherit_them() -> None:
    child = SHOW.replace(", hidvae", "")
    code = (
        f"import subprocess, sys; {SHOW}; assert 'torch' not in sys.modules; "
        f"print(subprocess.check_output([sys.executable, '-c', {child!r}], text=True))"
    )
    own, inherited = (json.loads(line) for line in run_python(code).splitlines() if line)
    assert own == inherited
    assert own[VARIABLES.index("GOMP_SPINCOUNT")] == str(threads._SPINS)


def test_the_command_line_sets_them() -> None:
    code = SHOW.replace("import json, os, hidvae", "import json, os, hidvae.apps.cli")
    assert json.loads(run_python(code))[VARIABLES.index("GOMP_SPINCOUNT")] == str(threads._SPINS)


def test_the_users_policy_reaches_torch_untouched() -> None:
    found = json.loads(run_python(SHOW, OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1"))
    assert found == ["1", "PASSIVE", None, None]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no processes")
def test_torch_takes_the_cores_of_the_process() -> None:
    code = (
        "import os; first = min(os.sched_getaffinity(0)); os.sched_setaffinity(0, {first}); "
        "import hidvae, torch; print(torch.get_num_threads())"
    )
    assert run_python(code) == "1"
