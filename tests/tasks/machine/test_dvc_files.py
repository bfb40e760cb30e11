"""Links into DVC's cache: they are the files themselves, and no other link is."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.data.raw.layouts import find_entries
from tasks.data.samples.contents import read_content
from tasks.machine.dvc_files import is_cached
from tasks.models.weight_file import check_place
from tasks.prediction.inputs import find_inputs

OBJECT = f"files/md5/ab/{'0' * 30}"
OLD_OBJECT = OBJECT.removeprefix("files/md5/")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of DVC's with a batch; settings of the user and the machine do not count."""
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "machine"))
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    (folder / "data/raw/b1/cat").mkdir(parents=True)
    return folder


def link(project, target, *, path="data/raw/b1/cat/1.png"):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"picture")
    (project / path).unlink(missing_ok=True)
    (project / path).symlink_to(target)
    return project / path


def reason(project):
    [entry] = find_entries(project / "data/raw/b1")
    return entry.reason


@pytest.mark.parametrize("target", [OBJECT, OLD_OBJECT])
def test_link_into_the_cache_is_the_file_itself(project, target):
    path = link(project, project / ".dvc/cache" / target)
    assert reason(project) == ""
    assert read_content(path) == b"picture"
    assert [item.reason for item in find_inputs([project / "data/raw/b1"])] == [""]


@pytest.mark.parametrize(
    ("place", "settings"),
    [
        ("project/.dvc/config", "[cache]\n    dir = ../../shared\n"),
        ("project/.dvc/config.local", "[cache]\n    dir = {shared}\n    type = symlink\n"),
        ("user/config", "[cache]\ndir = {shared}\n"),
        ("machine/config", '[cache]\ndir = "{shared}"\n'),
    ],
)
def test_cache_is_where_the_settings_of_dvc_say(project, tmp_path, place, settings):
    link(project, tmp_path / "shared" / OBJECT)
    assert reason(project) == "outside_batch"
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(settings.format(shared=tmp_path / "shared"), "utf-8")
    assert reason(project) == ""
    link(project, project / ".dvc/cache" / OBJECT)
    assert reason(project) == "outside_batch"


@pytest.mark.parametrize(
    "target",
    [
        f"elsewhere/{OBJECT}",
        f"other/.dvc/cache/{OBJECT}",
        "project/.dvc/cache/secret",
        "project/.dvc/config",
        f"project/.dvc/cache/{OBJECT}/deeper",
        f"project/.dvc/cache/files/md5/ab/{'x' * 30}",
        "project/.dvc/tmp/files/md5/ab/cd",
    ],
)
def test_link_to_any_other_place_leaves_the_batch(project, tmp_path, target):
    link(project, tmp_path / target)
    assert reason(project) == "outside_batch"
    assert [item.reason for item in find_inputs([project / "data/raw/b1"])] == ["outside_batch"]


def test_batch_cannot_name_a_cache_of_its_own(project, tmp_path):
    (project / "data/raw/b1/.dvc").mkdir()
    link(project, tmp_path / "secrets" / OBJECT)
    for name in ("config", "config.local"):
        (project / "data/raw/b1/.dvc" / name).write_text(f"[cache]\ndir = {tmp_path}/secrets\n", "utf-8")
    assert "outside_batch" in {entry.reason for entry in find_entries(project / "data/raw/b1")}
    assert not is_cached(tmp_path / "secrets" / OBJECT, root=project / "data/raw/b1")


def test_folder_that_is_a_link_to_the_cache_is_not_followed(project):
    link(project, project / ".dvc/cache" / OBJECT).unlink()
    (project / "data/raw/b1/way").symlink_to(project / ".dvc/cache")
    (project / "data/raw/b1/labels.csv").write_text(f"path,label\nway/{OBJECT},cat\n", "utf-8")
    assert {entry.reason for entry in find_entries(project / "data/raw/b1")} == {"outside_batch"}


def test_link_in_a_project_without_dvc_leaves_the_batch(project):
    link(project, project / ".dvc/cache" / OBJECT)
    (project / ".dvc").rename(project / "gone")
    link(project, project / "gone/cache" / OBJECT)
    assert reason(project) == "outside_batch"


def test_tables_may_be_links_into_the_cache(project):
    table = link(project, project / ".dvc/cache" / OBJECT, path="data/raw/b1/labels.csv")
    table.resolve().write_bytes(b"path,label\ncat/1.png,cat\n")
    (project / "data/raw/b1/cat/1.png").write_bytes(b"picture")
    assert [dict(entry.said) for entry in find_entries(project / "data/raw/b1")] == [{"label": "cat"}]
    table.unlink()
    pq.write_table(pa.table({"image": [b"one"], "label": ["cat"]}), project / ".dvc/cache" / OBJECT)
    (project / "data/raw/b1/x.parquet").symlink_to(project / ".dvc/cache" / OBJECT)
    assert "x.parquet/0" in {entry.path for entry in find_entries(project / "data/raw/b1") if not entry.reason}


def test_weights_may_be_a_link_into_the_cache_of_their_project_alone(project, tmp_path):
    (project / "data/models/baseline").mkdir(parents=True)
    check_place(link(project, project / ".dvc/cache" / OBJECT, path="data/models/baseline/model.safetensors"))
    with pytest.raises(ValueError, match=r"model\.safetensors is a link that leads out of the bundle"):
        check_place(link(project, tmp_path / "elsewhere" / OBJECT, path="data/models/baseline/model.safetensors"))


@pytest.mark.parametrize("kind", ["copy", "hardlink", "symlink"])
def test_batch_that_dvc_put_there_is_scanned_alike_whatever_links_it_makes(project, dvc, kind):
    batch = project / "data/raw/b1"
    (batch / "cat/1.png").write_bytes(b"picture")
    (project / ".dvc").rmdir()
    dvc(project, "init", "--no-scm", "--quiet")
    dvc(project, "config", "--local", "cache.type", kind)
    dvc(project, "add", "--quiet", "data/raw/b1")
    path = batch / "cat/1.png"
    assert (path.is_symlink(), path.stat().st_nlink > 1) == (kind == "symlink", kind == "hardlink")
    assert reason(project) == ""
    assert read_content(path) == b"picture"


def test_settings_without_a_home_are_those_of_the_project(project, monkeypatch):
    monkeypatch.delenv("DVC_GLOBAL_CONFIG_DIR")
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", "~/none")
    link(project, project / ".dvc/cache" / OBJECT)
    assert reason(project) == ""
