"""Batches land in a real project, with real servers of Prefect and S3 and a real DVC."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from flows.ingest import ingest, main
from flows.landing.copies import check_room, copy, size
from flows.landing.intake import take
from flows.landing.listing import Landing
from flows.landing.places import open_store
from flows.server.alarms import AGAIN, HOURS, LAST_ALARM
from flows.server.automations import ALARMS
from flows.workspace.batches import listed, tracked
from flows.workspace.hold import LOCK, only_writer
from tasks.data.manifest.batches import read_batches
from tests.kit.programs import SECONDS, git
from tests.kit.sharing import copied
from tests.kit.watching import until

pytestmark = [
    # Prefect's server and client cause these at shut-down; botocore and moto too
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RAW = Path("data/raw")
FILES = {f"2026-11/{label}/{number}.png": f"{label} {number}".encode() for label in "ab" for number in range(3)}
HOUR = 3600.0


def run(landing, **settings):
    return ingest(str(landing), **({"quiet_seconds": 0} | settings), return_state=True)


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def events(batch):
    """Return the events that the server has of a batch; it stores them a moment after they came."""
    wanted = {"filter": {"event": {"name": ["dataset.landed"]}, "resource": {"id": [f"graftline.batch.{batch}"]}}}
    with get_client(sync_client=True) as client:
        for _ in range(100):
            stored = client.request("POST", "/events/filter", json=wanted).json()["events"]
            if stored:
                return stored
            time.sleep(0.1)
    return []


@pytest.fixture(scope="module")
def taken(prefect_api, empty_project, tmp_path_factory):
    """A project that took a batch, and the landing. Copy both, never change them."""
    place = tmp_path_factory.mktemp("taken")
    copied(empty_project, place / "workspace")
    for path, content_of_file in FILES.items():
        (place / "landing" / path).parent.mkdir(parents=True, exist_ok=True)
        (place / "landing" / path).write_bytes(content_of_file)
    before = Path.cwd()
    os.chdir(place / "workspace")
    state = run(place / "landing")
    os.chdir(before)
    assert state.is_completed(), state.message
    assert state.message == "landed 1 batch (6 files, 18 B): 2026-11"
    return place


@pytest.fixture
def again(taken, tmp_path, monkeypatch):
    """A copy of `taken` that the test runs in. Returns its landing."""
    copied(taken, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy/workspace")
    return tmp_path / "copy/landing"


def test_batch_is_whole_tracked_listed_reported_and_marked(again, dvc):
    assert content(RAW / "2026-11") == {path.removeprefix("2026-11/"): data for path, data in FILES.items()}
    [out] = yaml.safe_load((RAW / "2026-11.dvc").read_text("utf-8"))["outs"]
    assert (out["nfiles"], out["size"]) == (6, 18)
    mark = json.loads((again / ".graftline/2026-11.json").read_text("utf-8"))
    assert (mark["batch"], mark["md5"]) == ("2026-11", out["md5"])
    assert read_batches(Path("data/batches.yaml")) == ["2026-11"]
    assert dvc(Path(), "status", "data/raw/2026-11.dvc") == "Data and pipelines are up to date.\n"
    assert git("status", "--porcelain").splitlines() == [" M data/batches.yaml", "?? data/raw/2026-11.dvc"]
    assert list((RAW / ".incoming").iterdir()) == []
    [event] = events("2026-11")
    assert event["payload"]["files"] == 6
    assert event["payload"]["bytes"] == 18
    assert event["payload"]["source"].endswith("/landing/2026-11")


def test_second_run_finds_nothing_new(again):
    assert run(again).message == "nothing new"


@pytest.mark.parametrize("is_marked", [True, False])
def test_late_file_fails_the_run_and_is_not_taken(again, is_marked):
    if not is_marked:  # a landing that cannot be written to
        shutil.rmtree(again / ".graftline")
        (again / ".graftline").touch()
    (again / "2026-11/a/late.png").write_bytes(b"late")
    state = run(again)
    assert state.is_failed()
    assert "2026-11: changed after it was taken as 2026-11: 1 file more: put new files in a batch of" in state.message
    assert listed() == ["2026-11"]
    assert not (RAW / "2026-11/a/late.png").exists()


def test_late_replacement_of_a_file_is_reported(again):
    (again / "2026-11/a/1.png").write_bytes(b"A 1")
    state = run(again)
    assert state.is_failed()
    assert "2026-11: changed after it was taken as 2026-11: other content" in state.message


def test_batch_whose_content_is_new_is_taken_each_time(prefect_api, workspace, land):
    landing = land({"latest.parquet": b"monday"})
    assert run(landing).message == "landed 1 batch (1 file, 6 B): latest.parquet"
    for day, count in ((b"tuesday", 2), (b"someday", 3)):  # the same size
        land({"latest.parquet": day})
        assert run(landing).is_completed()
        assert len(listed()) == count
        assert run(landing).message == "nothing new"
    assert [(RAW / name).read_bytes() for name in listed()] == [b"monday", b"tuesday", b"someday"]


def test_untracked_content_in_its_place_is_taken_as_it_is(prefect_api, workspace, land):
    for path in ("a/x/1.png", "a/x-2.png"):
        landing = land({path: b"1"})
    shutil.copytree(landing / "a", RAW / "a")
    assert run(landing).message == "landed 1 batch (2 files, 2 B): a"
    assert sorted(path.name for path in RAW.iterdir() if path.is_dir()) == [".incoming", "a"]
    assert run(landing).message == "nothing new"


def test_landing_that_was_copied_is_recognised_and_marked_again(again):
    os.utime(again / "2026-11/a/1.png", (1, 1))
    assert run(again).message == "nothing new; 2026-11 was here before, as 2026-11"
    assert run(again).message == "nothing new"


def test_content_seen_before_is_recognised_under_another_name(again):
    shutil.copytree(again / "2026-11", again / "copy")
    assert run(again).message == "nothing new; copy was here before, as 2026-11"
    assert listed() == ["2026-11"]
    assert run(again).message == "nothing new"


def test_landing_that_cannot_be_written_to_is_read_again_with_a_warning(again):
    shutil.rmtree(again / ".graftline")
    (again / ".graftline").touch()
    for _ in range(2):
        state = run(again)
        assert state.message.startswith("nothing new; 2026-11 was here before, as 2026-11; ")
        assert "cannot be written to, so every run reads taken batches again" in state.message


def test_batch_that_another_workspace_took_is_reported(again):
    (RAW / "2026-11.dvc").unlink()
    assert "2026-11 was taken as 2026-11, which is not here: pull it with git and DVC" in run(again).message


def test_batch_without_its_files_is_reported_and_copied_again_once_its_mark_is_removed(again, dvc):
    dvc_file = (RAW / "2026-11.dvc").read_text("utf-8")
    shutil.rmtree(RAW / "2026-11")
    shutil.rmtree(".dvc/cache")
    assert (
        "2026-11 was taken as 2026-11, but its files are not here: dvc pull, or remove its mark" in run(again).message
    )
    shutil.rmtree(again / ".graftline")
    assert run(again).message == "landed 1 batch (6 files, 18 B): 2026-11"
    assert content(RAW / "2026-11") == {path.removeprefix("2026-11/"): data for path, data in FILES.items()}
    assert (RAW / "2026-11.dvc").read_text("utf-8") == dvc_file
    assert dvc(Path(), "status", "data/raw/2026-11.dvc") == "Data and pipelines are up to date.\n"
    shutil.rmtree(RAW / "2026-11")
    dvc(Path(), "checkout", "data/raw/2026-11.dvc")
    assert listed() == ["2026-11"]


def test_batch_with_missing_files_does_not_count_as_known(again):
    landing = Landing(open_store(str(again)), marker="_COMPLETE")
    [batch] = landing.look().batches
    (RAW / "2026-11/a/1.png").unlink()
    (RAW / "2026-11/a/1.png").symlink_to(Path("gone").absolute())  # as cache.type symlink leaves it without a cache
    with pytest.raises(ValueError, match="was here before, as 2026-11, but files of it are missing: dvc pull"):
        take(batch, None, landing, print)


def test_name_of_other_content_gets_the_hash(again):
    shutil.rmtree(again)
    shutil.copytree(RAW / "2026-11/a", again / "2026-11/c")
    state = run(again)
    name = listed()[-1]
    assert name == f"2026-11-{tracked_hash(name)[:8]}"
    assert state.message == f"landed 1 batch (3 files, 9 B): {name}"


def tracked_hash(name):
    return {batch: digest for digest, batch in tracked().items()}[name]


def test_batch_that_changes_while_it_is_copied_waits(workspace, land, tmp_path):
    landing = Landing(open_store(str(land({"a/x/1.png": b"1"}))), marker="_COMPLETE")
    [batch] = landing.look().batches
    land({"a/x/2.png": b"2"})
    report = take(batch, None, landing, print)
    assert report.waiting == ["a waits: it changed while it was copied"]
    (tmp_path / "landing/a/x/1.png").rename(tmp_path / "landing/a/x/3.png")
    report = take(batch, None, landing, print)
    assert report.waiting == ["a waits: it changed while it was copied"]
    assert list((RAW / ".incoming").iterdir()) == []


def test_waiting_batch_is_left_alone(prefect_api, workspace, land):
    state = run(land({"a/x/1.png": b"1"}), quiet_seconds=HOUR)
    assert state.is_completed()
    assert state.message.startswith("nothing new; a waits: it changed ")
    assert listed() == []


def test_refused_batch_fails_the_run_and_stops_no_other(prefect_api, workspace, land):
    landing = land({"../secret": b"s", "a/x/1.png": b"1", f"{'é' * 127}/ü\n 1.png": b"2", "notes.txt": b""})
    (landing / "a/x/2.png").symlink_to("../../../secret")
    state = run(landing)
    name = "e" * 100
    assert state.is_failed()
    assert state.message.startswith(
        "a: 'a/x/2.png' is a link that leads to no file of the batch: mend it at the source"
    )
    assert f"landed 1 batch (1 file, 1 B): {name}" in state.message
    assert "notes.txt is not a batch" in state.message
    assert content(RAW / name) == {"ü\n 1.png": b"2"}
    assert not (RAW / "a").exists()


def test_objects_of_a_bucket_land(prefect_api, workspace, bucket):
    for key in ("land/", "land/a/", "land/a/x/"):
        bucket(key)
    bucket("land/a/x/1.png", b"one")
    bucket("land/a/x/2 [ü]?.png", b"two")
    bucket("land/b/x//1.png", b"odd")
    state = run("s3://door/land")
    assert state.message == (
        "b: 'b/x//1.png' is a key that is not a path: mend it at the source; landed 1 batch (2 files, 6 B): a"
    )
    assert content(RAW / "a") == {"x/1.png": b"one", "x/2 [ü]?.png": b"two"}
    assert events("a")[0]["payload"]["source"] == "s3://door/land/a"


def test_key_that_the_driver_mistakes_for_another_is_refused(bucket):
    bucket("land/a/1.png?versionId=3", b"one")
    bucket("land/a/1.png", b"two")
    [batch] = Landing(open_store("s3://door/land"), marker="_COMPLETE").look().batches
    with pytest.raises(
        ValueError, match=r"'a/1.png\?versionId=3' is a key that the driver mistakes for a version of another key"
    ):
        take(batch, None, Landing(open_store("s3://door/land"), marker="_COMPLETE"), print)


def test_object_of_other_bytes_than_its_listing_says_is_not_taken(bucket, tmp_path):
    bucket("land/a/1.png", b"one")
    store = open_store("s3://door/land")
    [batch] = Landing(store, marker="_COMPLETE").look().batches
    bucket("land/a/1.png", b"two")
    with pytest.raises(OSError, match=r"'a/1\.png' has other bytes than could be read"):
        copy(batch, tmp_path / "copy", store=store, log=print)
    bucket("land/a/1.png", b"two", ServerSideEncryption="aws:kms")  # its ETag is not a hash
    copy(batch, tmp_path / "encrypted", store=store, log=print)


def test_files_that_dvcignore_ignores_are_not_lost(prefect_api, workspace, land):
    with Path(".dvcignore").open("a", encoding="utf-8") as file:
        file.write("*.tmp\n")
    landing = land({"a/x/1.png": b"1", "a/x/2.tmp": b"2"})
    assert "DVC finds other files in data/raw/a than were copied" in run(landing).message
    assert listed() == []
    Path(".dvcignore").write_text("", "utf-8")
    assert run(landing).message == "landed 1 batch (2 files, 2 B): a"


@pytest.mark.parametrize(
    "address",
    [
        "sftp://me:se#cret@host/land",
        "simplecache::s3://key:sec/ret@door/land",
        "filecache::sftp://me:secret@host/land::file:///x",
        "https://host/land?signature=secret",
    ],
)
def test_secret_in_the_address_reaches_no_database(prefect_api, workspace, monkeypatch, capsys, address):
    monkeypatch.setattr(sys, "argv", ["ingest", address])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "holds a password or a query" in capsys.readouterr().err
    with get_client(sync_client=True) as client:
        assert address not in [run.parameters.get("landing") for run in client.read_flow_runs()]


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1"])
def test_wrong_quiet_seconds_are_refused_in_one_line(monkeypatch, capsys, seconds):
    monkeypatch.setattr(sys, "argv", ["ingest", "/landing", f"--quiet-seconds={seconds}"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "expected a number from 0 on" in capsys.readouterr().err


def test_batches_are_listed_as_they_landed(prefect_api, workspace, land):
    land({"b/x/1.png": b"1"})
    time.sleep(0.02)
    assert run(land({"a/x/1.png": b"2"})).is_completed()
    assert listed() == ["b", "a"]


def test_second_run_in_a_workspace_names_the_process_at_work(prefect_api, workspace, land):
    with only_writer():
        state = run(land({"a/x/1.png": b"1"}))
    assert state.is_failed()
    assert f"process {os.getpid()} is at work" in state.message


@pytest.mark.parametrize("landing", ["/no/such/place", "data/raw", ".."])
def test_wrong_landing_fails_the_run_in_one_line(prefect_api, workspace, landing):
    state = run(landing)
    assert state.is_failed()
    assert "landing" in state.message
    assert "\n" not in state.message


def test_repeated_failure_gets_a_state_that_raises_no_alarm(prefect_api, workspace, land):
    names = [run("/no/such/place").name for _ in range(2)]
    names += [run("data/raw").name, run(land({"a/1.png": b"1"})).name, run("data/raw").name]
    assert names == ["Failed", AGAIN, "Failed", "Completed", "Failed"]
    assert {"Failed", AGAIN} & ALARMS == {"Failed"}
    long_ago = time.time() - 3600 * HOURS
    os.utime(LAST_ALARM, (long_ago, long_ago))
    assert run("data/raw").name == "Failed"


def test_leftovers_stop_no_batch(prefect_api, workspace, land):
    (RAW / ".incoming/torn").mkdir(parents=True)
    (RAW / ".incoming/torn/arrival.json").write_text('{"name": "a"}', "utf-8")
    (RAW / ".incoming/stray").touch()
    (RAW / "b.dvc").touch()
    state = run(land({"a/1.png": b"1"}))
    assert state.message.startswith(
        "data/raw/.incoming/torn/arrival.json is of another version, or torn: remove data/raw/.incoming/torn, "
        "and its batch is copied again; landed 1 batch (1 file, 1 B): a; data/raw/b.dvc is not a DVC file"
    )
    assert [place.name for place in (RAW / ".incoming").iterdir()] == ["torn"]


def test_disk_without_room_is_reported_before_anything_is_copied(prefect_api, workspace, land):
    landing = land({"a/x/1.png": b""})
    os.truncate(landing / "a/x/1.png", 8 * 10**12)  # a sparse file
    assert "make room, then run again" in run(landing).message


def test_room_is_needed_for_the_copy_and_for_a_cache_on_the_same_disk(workspace, dvc):
    memory = Path("/dev/shm")  # a file system without reflinks
    num_bytes = shutil.disk_usage(memory).free * 3 // 4
    dvc(Path(), "config", "cache.dir", str(Path(__file__).with_name("cache")))  # on another disk
    check_room(num_bytes, memory)
    dvc(Path(), "config", "cache.dir", str(memory / "cache"))
    check_room(num_bytes // 2, memory)
    with pytest.raises(OSError, match=f"{size(num_bytes)} are to be copied, and once more into DVC's cache, but"):
        check_room(num_bytes, memory)


def test_torn_list_of_dvcs_locks_stops_no_dvc(workspace, dvc):
    torn = Path(".dvc/tmp/rwlock")
    torn.parent.mkdir(exist_ok=True)
    torn.write_text('{"read": {', "utf-8")
    with only_writer():
        (RAW / "a").mkdir()
        (RAW / "a/1.png").touch()
        dvc(Path(), "add", "data/raw/a")


def is_link(file):
    with suppress(FileNotFoundError):  # DVC removes the file before it links it
        return file.stat().st_nlink > 1


def test_first_batch_of_an_ingest_is_marked_as_first(prefect_api, workspace, land):
    """The trigger starts one run for all batches of an ingest."""
    run(land({f"order-{name}/a/1.png": name.encode() for name in "xyz"}))
    assert sorted(order(f"order-{name}") for name in "xyz") == ["first", "further", "further"]
    run(land({"order-later/a/1.png": b"later"}))
    assert order("order-later") == "first"


def order(batch):
    [event] = events(batch)
    return event["resource"]["graftline.order"]


def test_batch_consists_of_links_where_cache_type_asks_for_them(prefect_api, workspace, land, dvc):
    dvc(Path(), "config", "--local", "cache.type", "hardlink,copy")
    assert run(land(FILES)).is_completed()
    assert [is_link(file) for file in RAW.glob("2026-11/*/*.png")] == [True] * len(FILES)


STEPS = {
    "the copy is begun": lambda: any(RAW.glob(".incoming/*/content/*")),
    "the copy is whole": lambda: any(RAW.glob(".incoming/*/arrival.json")),
    "it is in its place": lambda: (RAW / "killed").exists(),
    "DVC copies it": lambda: any(Path(".dvc/cache").glob("files/md5/*/*")),
    "DVC tracks it": lambda: (RAW / "killed.dvc").exists(),
    "DVC links it": lambda: any(is_link(file) for file in RAW.glob("killed/*/*")),
    "it is listed": lambda: "killed" in Path("data/batches.yaml").read_text("utf-8"),
    "the landing is marked": lambda: False,  # the run goes on to its end
}


def is_free():
    """Return whether no process holds the workspace."""
    with LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_run_that_is_killed_at_every_step_is_completed_by_the_next(prefect_api, workspace, land, dvc):
    dvc(Path(), "config", "cache.type", "hardlink")  # so that DVC removes files to link them
    files = {f"killed/{number % 10}/{number}.png": f"{number}".encode() for number in range(400)}
    landing = land(files)
    for is_done in STEPS.values():
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.ingest", str(landing), "--quiet-seconds", "0"],
            env=os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(lambda done=is_done, run=process: done() or run.poll() is not None, pause_seconds=0.001)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=SECONDS)
        until(is_free)  # the guard ends the DVC of the killed run
    assert process.returncode == 0
    assert run(landing).message == "nothing new"
    assert content(RAW / "killed") == {path.removeprefix("killed/"): data for path, data in files.items()}
    assert sorted(path.name for path in RAW.iterdir() if path.is_dir()) == [".incoming", "killed"]
    assert list((RAW / ".incoming").iterdir()) == []
    assert read_batches(Path("data/batches.yaml")) == ["killed"]
    assert dvc(Path(), "status", "data/raw/killed.dvc") == "Data and pipelines are up to date.\n"
    assert len(events("killed")) == 1
