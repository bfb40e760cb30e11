"""Fixtures for the tests of the flows: a Prefect server, a light project, and places where batches land."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import certifi
import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.kit.prefect_server import prefect_server
from flows.workspace.working_copy import make_workspace
from tests.kit.programs import run_module
from tests.kit.sharing import copied, made_once, packed

ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")
CHANGED = ("backbone_learning_rate", 0.0001)  # of fine-tuning


@pytest.fixture(scope="session", autouse=True)
def starts(warm, tmp_path_factory):
    """Each door, and each program that a flow runs, starts warm.

    It trusts one of the world's authorities, because each client of Prefect reads all that it trusts.
    """
    first, end, _ = Path(certifi.where()).read_text("utf-8").partition("-----END CERTIFICATE-----\n")
    trusted = tmp_path_factory.mktemp("trusted") / "one.pem"
    trusted.write_text(first + end, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SSL_CERT_FILE", "PREFECT_API_SSL_CERT_FILE"):  # of httpx, and of Prefect
            patch.setenv(name, str(trusted))
        yield


@pytest.fixture(scope="module")
def prefect_api(new_home):
    """A Prefect server for flows that run in the test's own process. It asks for no password, and stores events at
    once."""
    home = new_home()
    at_once = {"PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.1"}
    with (
        prefect_server(home, folder=home, **at_once) as environment,
        temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}),
    ):
        yield
        for worker in (APILogWorker, EventsWorker):  # else they look for the server until the tests are killed
            worker.drain_all()


@pytest.fixture(scope="session")
def new_home(tmp_path_factory) -> Iterator[Callable[[], Path]]:
    """Make a home for a Prefect server, whose first start took place elsewhere: it takes 4 s of processor.

    It lies in memory where there is a folder for that: on a slow disk Prefect finds its SQLite database locked, and
    then loses a message or sends it twice.
    """

    def make(place: Path) -> None:
        with prefect_server(place / "home"):
            pass
        (place / "home/server.log").unlink()

    def copy() -> Path:
        return copied(template, Path(tempfile.mkdtemp(dir=place)) / "home")

    template = made_once(tmp_path_factory, "prefect", make) / "home"
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None, ignore_cleanup_errors=True) as place:
        yield copy


@pytest.fixture(scope="session")
def undisturbed(finished, new_home, set_param, tmp_path_factory):
    """A folder with `project`, which is `finished` after a change of fine-tuning and a run on its own Prefect server.

    `printed` has the output of that run. Copy the folder, never change it.
    """

    def make(place: Path) -> None:
        project = copied(finished, place / "project")
        set_param(project, *CHANGED)
        environment = os.environ | {"PREFECT_HOME": str(new_home())}
        done = run_module("flows.retrain", cwd=project, env=environment)
        (place / "printed").write_text(done.stdout + done.stderr, "utf-8")

    return made_once(tmp_path_factory, "undisturbed", make)


@pytest.fixture
def stale(project, set_param):
    """A project in which finetune and what follows is to be run; `undisturbed` is what becomes of it."""
    set_param(project, *CHANGED)
    return project


@pytest.fixture(scope="session")
def empty_project(tmp_path_factory):
    """A project without data. Copy it, never change it."""

    def make(place: Path) -> None:
        make_workspace(ROOT, place / "workspace")
        packed(place / "workspace")

    return made_once(tmp_path_factory, "empty", make) / "workspace"


@pytest.fixture
def workspace(empty_project, tmp_path, monkeypatch):
    """A project of the test's own. The test runs in it."""
    copy = tmp_path / "workspace"
    copied(empty_project, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def bare_workspace(tmp_path, monkeypatch):
    """A folder with this repository's dvc.yaml and nothing else. The test runs in it."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def land(tmp_path):
    """Put files into a local landing: land({"batch/class/file": b"…"}) returns the landing's folder."""

    def put(files: dict[str, bytes]):
        for path, content in files.items():
            file = tmp_path / "landing" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return tmp_path / "landing"

    return put


@pytest.fixture
def files_with():
    """Find the files below a folder that contain a text, sorted."""

    def find(text: str, folder: Path) -> list[Path]:
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return [path for path in files if text.encode() in path.read_bytes()]

    return find
