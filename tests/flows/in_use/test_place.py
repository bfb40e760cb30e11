"""Whenever a run is killed, the model in use is the old one or the new one."""

import json
import shutil
import signal
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from flows.in_use.exchange import put_in_place
from flows.in_use.place import digests, settle_unfinished
from tests.kit.programs import SECONDS, git, run, running

ROOT = Path(__file__).parents[3]

# Python calls an audit hook before each change of the file system and before each start of git
PUT_IN_USE = """
import json, os, signal, sys
from pathlib import Path
from flows.in_use import exchange, place
from flows.workspace.hold import only_writer
for line in sys.stdin:  # a fork for each promotion: only the first one waits for the imports
    if (pid := os.fork()) == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    raise SystemExit
folder, step, way = json.loads(line)
os.chdir(folder)
if way != "exchange":
    exchange._exchange = lambda one, other: False
if way == "copies":
    rename = Path.rename
    def refuse(path, target):
        if path.name == "baseline" and path.parent.name == "models":
            raise OSError(18, "Invalid cross-device link")
        return rename(path, target)
    Path.rename = refuse
plan = place.Plan(**json.load(open("plan.json")))
events = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "open", "subprocess.Popen", "shutil.rmtree"}
seen = 0

def hook(event, arguments):
    global seen
    if event in events and not (event == "open" and arguments[1] in ("r", "rb")):
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)

with only_writer():
    sys.addaudithook(hook)
    place.put_in_use(plan, log=lambda line: None)
"""


def bundle(folder, name):
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(f"weights of {name}", "utf-8")
    (folder / "model.json").write_text(f"description of {name}", "utf-8")


def text_of(path):
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def put_in_use():
    """A process with which `PUT_IN_USE` runs: it takes the folder, the step and the way in a line, and answers with
    the exit status."""
    settings = {"env": {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, "stdin": PIPE, "stdout": PIPE}
    with running(sys.executable, "-c", PUT_IN_USE, **settings) as process:
        yield process
        process.stdin.close()
        process.wait(SECONDS)


@pytest.fixture
def put(put_in_use, tmp_path, monkeypatch):
    """put(step) puts `new` in use in the place of `old`, is killed at the step, and returns whether it was."""
    number = 0

    def begin(step, *, is_first=False, way="exchange"):
        nonlocal number
        number += 1
        project = tmp_path / str(number)
        models = project / "data/models"
        models.mkdir(parents=True)
        (project / ".dvc/tmp").mkdir(parents=True)
        (project / ".gitignore").write_text("/.dvc/\n/plan.json\n/data/models/baseline/\n", "utf-8")
        shutil.copy(ROOT / "dvc.yaml", project)
        (project / "data/classes.json").write_text("{}", "utf-8")
        (models / "baseline.json").write_text('{"model_sha256": "old"}', "utf-8")
        if not is_first:
            bundle(models / "baseline", "old")
            (models / "baseline.dvc").write_text("old", "utf-8")
        git("init", "--quiet", folder=project)
        git("add", "--all", folder=project)
        git("commit", "--quiet", "-m", "before", folder=project)
        (project / "mine.txt").write_text("changed by somebody else", "utf-8")
        git("add", "mine.txt", folder=project)
        bundle(models / ".promotion/baseline", "new")
        entry = {"version": 1, "tag": "classifier@v1.0.0", "action": "promote", "why": None, "dvc_out": {}}
        entry |= digests(models / ".promotion/baseline")
        plan = {"entry": entry, "registry": {"version": 1}, "pointer": "new"}
        (project / "plan.json").write_text(json.dumps(plan), "utf-8")
        put_in_use.stdin.write(json.dumps([str(project), step, way]) + "\n")
        put_in_use.stdin.flush()
        status = int(put_in_use.stdout.readline())
        assert status in (0, -signal.SIGKILL)
        monkeypatch.chdir(project)
        return status != 0

    return begin


def model_in_use():
    """Return the name of the model in use, and assert that it is whole."""
    folder = Path("data/models/baseline")
    name = text_of(folder / "model.safetensors").removeprefix("weights of ")
    assert text_of(folder / "model.json") == f"description of {name}"
    return name


def assert_settled(name):
    """Assert that pointer, record, registry, log, commit and tag are all about the same model."""
    models = Path("data/models")
    assert not (models / ".promotion").exists()
    assert git("diff", "--cached", "--name-only").split() == ["mine.txt"]
    log = models / "promotions.jsonl"
    if name == "new":
        assert (
            json.loads(text_of(models / "baseline.json"))["model_sha256"]
            == digests(models / "baseline")["model_sha256"]
        )
        assert text_of(models / "baseline.dvc") == "new"
        assert json.loads(text_of(Path("data/classes.json"))) == {"version": 1}
        assert len(text_of(log).splitlines()) == 1
        assert git("rev-list", "--count", "HEAD").strip() == "2"
        assert git("show", "classifier@v1.0.0:data/models/baseline.dvc") == "new"
    else:
        assert json.loads(text_of(models / "baseline.json")) == {"model_sha256": "old"}
        assert text_of(Path("data/classes.json")) == "{}"
        assert not log.exists()
        assert git("tag") == ""


@pytest.mark.parametrize("way", ["exchange", "renames", "copies"])
def test_promotion_killed_at_any_step_leaves_the_old_model_or_the_new_and_the_next_run_settles_it(put, way):
    names = []
    for step in range(1, 200, 2 if way == "copies" else 1):
        if not put(step, way=way):
            break
        if way == "exchange" or (way == "renames" and Path("data/models/baseline").exists()):
            before = model_in_use()
        settle_unfinished(lambda line: None)
        name = model_in_use()
        if way == "exchange":
            assert name == before
        assert_settled(name)
        names.append(name)
    assert_settled("new")
    assert model_in_use() == "new"
    assert len(names) > 20
    assert names == sorted(names, reverse=True)  # the old model until the step that decides, then the new one
    assert set(names) == {"old", "new"}


def test_first_promotion_that_is_killed_leaves_a_whole_model_or_none(put):
    outcomes = set()
    for step in range(1, 40, 3):
        put(step, is_first=True)
        settle_unfinished(lambda line: None)
        is_there = Path("data/models/baseline").exists()
        outcomes.add(is_there)
        if is_there:
            assert model_in_use() == "new"
            assert_settled("new")
    assert outcomes == {True, False}


def test_unfinished_promotion_can_be_settled_twice(put):
    assert not put(0)
    settle_unfinished(lambda line: None)
    settle_unfinished(lambda line: None)
    assert_settled("new")


def test_refusal_of_git_is_reported_and_the_next_run_records_the_model_in_use(put):
    next(step for step in range(1, 200) if put(step) and model_in_use() == "new")
    lock = Path(".git/index.lock")
    lock.touch()
    with pytest.raises(
        ValueError, match=r"is in use, but git refuses to add .*index\.lock.*which completes the record"
    ):
        settle_unfinished(lambda line: None)
    lock.unlink()
    settle_unfinished(lambda line: None)
    assert_settled("new")


@pytest.fixture
def layers(tmp_path):
    """A folder as a container has it: what lay there before is in the image's layer."""
    image, own, work, folder = (tmp_path / name for name in ("image", "own", "work", "folder"))
    bundle(image / "baseline", "old")
    for place in (own, work, folder):
        place.mkdir()
    options = f"lowerdir={image},upperdir={own},workdir={work}"
    mounted = run("mount", "-t", "overlay", "overlay", "-o", options, folder, status=None)
    if mounted.returncode != 0:
        pytest.skip(f"no overlay can be mounted here: {mounted.stderr.strip()}")
    yield folder
    run("umount", "--lazy", folder)


def test_model_that_came_with_a_containers_image_can_be_replaced(layers):
    bundle(layers / ".promotion/baseline", "new")
    with pytest.raises(OSError, match="cross-device"):
        (layers / "baseline").rename(layers / "moved")
    put_in_place(layers / ".promotion/baseline", layers / "baseline", old=layers / ".promotion/old")
    assert text_of(layers / "baseline/model.safetensors") == "weights of new"
    assert text_of(layers / ".promotion/old/model.safetensors") == "weights of old"
    assert not (layers / ".promotion/baseline").exists()
