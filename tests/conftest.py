"""Real projects for the tests: working copies of this repository with a little of the handwritten digits in them."""

import atexit
import gc
import importlib
import os
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# The workers share the cores: a second thread of torch or of OpenBLAS would wait for one of another worker's.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["DVC_NO_ANALYTICS"] = "1"  # which DVC would send from a process of half a second
# What is freed stays with the programs: the kernel takes longer to clear a page again than a small network to use it.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 * 2**20))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(256 * 2**20))

import tasks  # noqa: F401  it says how threads wait, before torch starts any
from benchmarks.kit import small_project
from tests.kit.programs import SECONDS, run_module
from tests.kit.sharing import copied, made_once, packed
from tests.kit.warm_starts import KINDS, WORKERS, hooked, warm_starts

ROOT = Path(__file__).parent.parent
MEMORY, LEAST_GIB = Path("/dev/shm"), 4
SHARED = pytest.StashKey[dict[str, str]]()  # addresses by kind
LONG = (
    "flows/test_crashes", "tasks/test_finetune", "flows/test_ingest", "tasks/machine/test_sources", "flows/test_serve",
    "flows/test_pipeline", "flows/test_fresh_clone", "flows/test_photographs", "flows/test_work_pool",
    "flows/test_churn_flow", "flows/test_retrain", "tasks/test_adapt", "tasks/test_chain_of_warm_starts",
    "tasks/test_evaluate_kinds", "tasks/models/test_backbone", "tasks/models/test_bundle",
    "tasks/training/finetuning/test_trunks",
)  # fmt: skip


def gib_in_memory() -> float:
    """Return how many GiB of files fit into memory; 0 where there is no folder for them, or it runs no programs."""
    if not MEMORY.is_dir() or (place := os.statvfs(MEMORY)).f_flag & os.ST_NOEXEC:
        return 0.0
    kilobytes = re.findall(r"^MemAvailable: *(\d+) kB$", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
    return min(place.f_bavail * place.f_frsize, int(kilobytes[0]) * 1024 / 2) / 2**30


# The tests make very many files, and would wait for the disk. Those of a test that passed are removed at its end.
if gib_in_memory() >= LEAST_GIB:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Let the workers be forks of one process that has imported the tests, and start what they share meanwhile."""
    if sys.platform != "linux":  # other systems tell no process of the end of another
        return
    folder = config.invocation_params.dir
    files = [os.path.join(folder, file) for file in config.args]  # noqa: PTH118  the id of a test may have any text
    places = warm_starts(WORKERS, *KINDS, files=files)
    os.environ |= {WORKERS: places.pop(WORKERS)} | hooked()
    config.stash[SHARED] = places


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker the addresses of what the workers share."""
    node.workerinput["warm starts"] = node.config.stash.get(SHARED, {})


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage among what the modules of all tests import, now or later: there is none, and it is much."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        gc.set_threshold(50_000)  # objects until it looks again; Python's 700 are made in a line of torch


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[object]:
    """Collect the garbage of a file at its end, and set apart what stays: modules that its tests imported.

    Else each full collection of later tests looks through it, which took a tenth of all time.
    """
    result = yield
    if nextitem is None or nextitem.path != item.path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that nobody closed: they belong to no later test
            gc.collect()
        gc.freeze()
    return result


def pytest_unconfigure() -> None:
    # else some modules report at exit that they leak; not now, because pytest still collects garbage twice
    atexit.register(gc.unfreeze)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left with one at the end.

    The first makes the finished project; the next three need none meanwhile. The second trains in forks: it needs a
    process of its own for each training once a test of the same worker called torch.export.
    GRAFTLINE_TEST_SEED shuffles the files instead: none may depend on another.
    """
    files = list(dict.fromkeys(item.path for item in items))
    if seed := os.environ.get("GRAFTLINE_TEST_SEED"):
        random.Random(seed).shuffle(files)
    else:
        order = {ROOT / f"tests/{name}.py": rank for rank, name in enumerate(LONG)}
        files.sort(key=lambda file: (order.get(file, len(LONG)), not file.is_relative_to(ROOT / "tests/flows")))
    rank_of = {file: rank for rank, file in enumerate(files)}
    items.sort(key=lambda item: rank_of[item.path])


@pytest.fixture(scope="session")
def great_expectations() -> None:
    """Imports it once, outside of "warnings are errors": what it says while it is imported is not about this code."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("great_expectations")
        importlib.import_module("great_expectations.expectations")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The demo's batch: a folder a digit, all of it."""

    def make(place: Path) -> None:
        run_module("tasks.demo.digits", "--out", place / "digits", cwd=ROOT)

    return made_once(tmp_path_factory, "digits", make) / "digits"


@pytest.fixture(scope="session")
def put_batch(digits) -> Callable[..., None]:
    """Put the pictures of each digit from `first` on into a workspace as a batch, and list it."""

    def put(workspace: Path, name: str, *, first: int = 0, count: int = small_project.PICTURES_PER_CLASS) -> None:
        small_project.put_batch(digits, workspace / "data/raw" / name, first=first, count=count)
        listed = workspace / "data/batches.yaml"
        text = listed.read_text("utf-8")
        listed.write_text(text.replace("[]", f"[{name}]") if "[]" in text else text.replace("]", f", {name}]"), "utf-8")

    return put


@pytest.fixture(scope="session")
def set_param() -> Callable[..., None]:
    """Change a line of a workspace's params.yaml."""
    return small_project.set_param


@pytest.fixture(scope="session")
def warm(pytestconfig) -> Iterator[None]:
    """Stages, doors, DVC and Prefect start without the seconds that their imports take, from here on."""
    with pytest.MonkeyPatch.context() as patch:
        places = getattr(pytestconfig, "workerinput", {}).get("warm starts") or warm_starts(*KINDS)
        for name, value in (places | hooked()).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def dvc(warm) -> Callable[..., str]:
    """Run DVC in a workspace and return what it printed; a test fails where it does."""

    def run(workspace: Path, *arguments: str, status: int = 0) -> str:
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=workspace,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="session")
def finished(put_batch, set_param, dvc, tmp_path_factory) -> Path:
    """A working copy with one batch and a short training, brought up to date, committed and pushed to a DVC remote.
    Copy it, never change it."""
    from flows.workspace.working_copy import commit, make_workspace

    def make(place: Path) -> None:
        workspace = place / "workspace"
        make_workspace(ROOT, workspace)
        for key, value in (small_project.SHORT | {"epochs": 1}).items():
            set_param(workspace, key, value)
        put_batch(workspace, "first")
        dvc(workspace, "remote", "add", "--default", "store", str(place / "remote"))
        dvc(workspace, "add", "data/raw/first")
        dvc(workspace, "repro")
        dvc(workspace, "push")
        commit(workspace, "first run")
        packed(workspace)

    return made_once(tmp_path_factory, "finished", make) / "workspace"


@pytest.fixture
def project(finished, tmp_path) -> Path:
    """A copy of `finished` that a test may change."""
    copy = tmp_path / "project"
    copied(finished, copy)
    return copy


@pytest.fixture(scope="session")
def s3_server():
    """A real S3 server. Each process has one, because fsspec remembers the address of the first."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """An empty bucket, and the settings to reach it in the environment: put(key, content, **settings)."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "nothing-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="door")
    yield lambda key, content=b"", **settings: client.put_object(Bucket="door", Key=key, Body=content, **settings)
    for entry in client.list_objects_v2(Bucket="door").get("Contents", []):
        client.delete_object(Bucket="door", Key=entry["Key"])
    client.delete_bucket(Bucket="door")
