"""Embedding stores as `prune` finds and leaves them."""

import hashlib
import os
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tasks.data.store.segments import values_of
from tasks.data.store.store import CHUNK, RECIPE, Store, fingerprint_of
from tasks.machine.files import write_json
from tasks.prune import run

VALUE_BYTES = 1000


def ids(count, *, first=0):
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(first, first + count)]


def open_store(path, *, architecture="shufflenet"):
    return Store(path, recipe={"architecture": architecture, "precision": "float32"}, value_bytes=VALUE_BYTES)


def fill(store, sample_ids):
    """One more segment; its keys."""
    before = set(store.folder.glob("*.keys"))
    with store.writer() as writer:
        writer.add(sample_ids, values_for(sample_ids))
    [keys] = set(store.folder.glob("*.keys")) - before
    return keys


def values_for(sample_ids):
    content = b"".join(hashlib.shake_128(each.encode()).digest(VALUE_BYTES) for each in sample_ids)
    return np.frombuffer(content, np.uint8).reshape(-1, VALUE_BYTES)


def used_on(keys, day):
    noon = datetime.fromisoformat(f"{day} 12:00").timestamp()
    os.utime(keys, (noon, noon))


def flip(path, *, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def prune(path, *, recipe=None, unused_since=None, damaged=False):
    run(store=path, recipe=recipe, unused_since=unused_since, damaged=damaged)


@pytest.fixture
def store(tmp_path):
    """A store of two recipes: 3,000 samples of the first and 2,000 of the second."""
    path = tmp_path / "store"
    fill(open_store(path, architecture="resnet"), ids(2000))
    first = open_store(path)
    fill(first, ids(3000))
    return first


@pytest.fixture
def other(store):
    return open_store(store.path, architecture="resnet")


def everything(path):
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def test_recipes_are_listed_with_what_they_hold(shell, store, other):
    used_on(next(store.folder.glob("*.keys")), "2026-01-31")
    today = date.today()
    before = everything(store.path)
    done = shell("prune", "--store", store.path)
    lines = sorted(
        [
            f"{store.fingerprint[:12]}, shufflenet float32, 3,000 samples, 3.1 MB, last used 2026-01-31",
            f"{other.fingerprint[:12]}, resnet float32, 2,000 samples, 2.1 MB, last used {today}",
        ]
    )
    assert (done.status, done.stderr.splitlines()) == (0, lines)
    assert everything(store.path) == before


def test_recipe_is_removed_by_the_beginning_of_its_name(shell, store, other):
    done = shell("prune", "--store", store.path, "--recipe", store.fingerprint[:12])
    assert (done.status, done.stderr) == (0, "freed 3,000 samples, 3.1 MB\n")
    assert not store.folder.exists()
    assert len(store.missing(ids(3000))) == 3000
    assert len(other.missing(ids(2000))) == 0


def test_unknown_recipe_is_told_what_there_is(shell, store, other):
    held = ", ".join(sorted([store.fingerprint[:12], other.fingerprint[:12]]))
    done = shell("prune", "--store", store.path, "--recipe", "xyz")
    assert done.error == f"'xyz' begins the name of 0 recipes of {store.path}, expected one of: {held}"


def test_name_that_begins_several_recipes_removes_none(tmp_path):
    stores = [open_store(tmp_path / "store", architecture=str(number)) for number in range(17)]  # of 16 first letters
    for store in stores:
        fill(store, ids(1))
    letters = [store.fingerprint[0] for store in stores]
    prefix = next(each for each in letters if letters.count(each) > 1)
    with pytest.raises(ValueError, match=rf"'{prefix}' begins the name of {letters.count(prefix)} recipes"):
        prune(tmp_path / "store", recipe=prefix)
    assert all(store.folder.exists() for store in stores)


def test_empty_name_removes_nothing(tmp_path):
    store = open_store(tmp_path / "store")
    fill(store, ids(1))
    with pytest.raises(ValueError, match="begins the name of 0 recipes"):
        prune(store.path, recipe="")
    assert store.folder.exists()


def test_what_was_not_used_since_a_day_is_removed(shell, store):
    old, on_the_day = fill(store, ids(10, first=3000)), fill(store, ids(10, first=3010))
    used_on(old, "2026-01-30")
    used_on(on_the_day, "2026-01-31")
    done = shell("prune", "--store", store.path, "--unused-since", "2026-01-31")
    assert (done.status, done.stderr) == (0, "freed 10 samples, 0.0 MB\n")
    assert store.missing(ids(3020)).tolist() == list(range(3000, 3010))
    assert not values_of(old).exists()


def test_recipe_of_which_nothing_is_left_goes_too(store, other):
    used_on(next(store.folder.glob("*.keys")), "2026-01-30")
    prune(store.path, unused_since=date(2026, 1, 31))
    assert not store.folder.exists()
    assert len(other.missing(ids(2000))) == 0


def test_what_was_read_today_is_in_use(store):
    used_on(next(store.folder.glob("*.keys")), "2026-01-30")
    list(store.read(ids(1)))
    prune(store.path, unused_since=date.today() - timedelta(days=1))
    assert len(store.missing(ids(3000))) == 0


def test_day_that_is_none_is_refused_with_an_example(shell, store):
    done = shell("prune", "--store", store.path, "--unused-since", "yesterday")
    assert done.status == 2
    assert "--unused-since: 'yesterday' is not a day, expected one such as 2026-01-31" in done.stderr


def test_damaged_values_go_and_the_whole_ones_stay(shell, store, other):
    [keys] = store.folder.glob("*.keys")
    for row in (0, CHUNK, 2999):
        flip(values_of(keys), at=row * VALUE_BYTES + 5)
    done = shell("prune", "--store", store.path, "--damaged")
    assert (done.status, done.stderr.splitlines()) == (
        0,
        [f"removed 3 damaged values of 3,000 from {values_of(keys)}", "freed 3 samples, 0.0 MB"],
    )
    assert store.missing(ids(3000)).tolist() == [0, CHUNK, 2999]
    whole = [each for number, each in enumerate(ids(3000)) if number not in (0, CHUNK, 2999)]
    assert np.array_equal(np.concatenate(list(store.read(whole))), values_for(whole))
    assert not keys.exists()
    assert len(other.missing(ids(2000))) == 0


def test_values_that_a_copy_left_out_go(store):
    [keys] = store.folder.glob("*.keys")
    os.truncate(values_of(keys), 2000 * VALUE_BYTES + 17)
    prune(store.path, damaged=True)
    assert store.missing(ids(3000)).tolist() == list(range(2000, 3000))


def test_segment_without_values_goes(store):
    [keys] = store.folder.glob("*.keys")
    values_of(keys).unlink()
    prune(store.path, damaged=True)
    assert [each.name for each in store.folder.iterdir()] == [RECIPE]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_segment_that_the_disk_cannot_read_goes(shell, store):
    [keys] = store.folder.glob("*.keys")
    values_of(keys).unlink()
    values_of(keys).symlink_to("/proc/self/mem")  # an input/output error where it begins
    done = shell("prune", "--store", store.path, "--damaged")
    assert done.stderr.splitlines()[0] == f"removed {values_of(keys)}, which the disk cannot read"
    assert [each.name for each in store.folder.iterdir()] == [RECIPE]


@pytest.mark.parametrize("content", ['{"architecture": "b"}', '{"arch', None])
def test_recipe_that_is_damaged_goes_and_can_begin_anew(shell, store, other, content):
    (store.folder / RECIPE).unlink()
    if content is not None:
        (store.folder / RECIPE).write_text(content, "utf-8")
    done = shell("prune", "--store", store.path, "--damaged")
    assert done.stderr.splitlines() == [
        f"removed {store.folder}, whose {RECIPE} is damaged",
        "freed 3,000 samples, 3.1 MB",
    ]
    again = open_store(store.path)
    fill(again, ids(1))
    assert len(again.missing(ids(1))) == 0
    assert len(other.missing(ids(2000))) == 0


def test_what_a_kill_leaves_is_no_damage(store):
    [keys] = store.folder.glob("*.keys")
    os.truncate(keys, 36 * 2000 + 7)
    before = everything(store.path)
    prune(store.path, damaged=True)
    assert everything(store.path) == before
    assert len(store.missing(ids(2000))) == 0


def test_run_that_writes_on_is_no_damage(store):
    with store.writer(flush_seconds=0) as writer:
        writer.add(ids(10, first=5000), values_for(ids(10, first=5000)))
        prune(store.path, damaged=True)
        writer.add(ids(10, first=5010), values_for(ids(10, first=5010)))
    assert len(store.missing(ids(20, first=5000))) == 0


def test_run_that_writes_on_outlives_the_removal_of_its_recipe(store):
    with store.writer(flush_seconds=0) as writer:
        writer.add(ids(10), values_for(ids(10)))
        prune(store.path, recipe=store.fingerprint)
        writer.add(ids(10, first=10), values_for(ids(10, first=10)))
    assert len(store.missing(ids(20))) == 20
    fill(store, ids(20))
    assert len(store.missing(ids(20))) == 0


def test_remnant_of_a_prune_that_was_killed_goes_with_the_next(store, other):
    other.folder.rename(store.path / ".removed-0123")
    used_on(next((store.path / ".removed-0123").glob("*.keys")), "2026-01-30")
    prune(store.path, unused_since=date(2026, 1, 1))
    assert not (store.path / ".removed-0123").exists()


@pytest.mark.parametrize("choice", [(), ("--damaged",), ("--unused-since", "2026-01-31")])
def test_folder_that_is_no_store_is_refused_and_left_alone(shell, workspace, choice):
    (workspace / ("ab" * 32)).mkdir()
    before = everything(workspace)
    done = shell("prune", "--store", workspace, *choice)
    assert done.error == f"{workspace} holds other files and no embedding store: name an empty or new folder"
    assert everything(workspace) == before


def test_store_that_is_not_there_is_not_made(shell, workspace):
    assert shell("prune", "--store", "gone").error == "there is no embedding store at gone: name the folder of one"
    assert not (workspace / "gone").exists()


def test_two_choices_at_once_are_refused(shell, store):
    done = shell("prune", "--store", store.path, "--damaged", "--recipe", store.fingerprint)
    assert done.error == "--recipe, --unused-since and --damaged exclude each other: give one of them"
    assert store.folder.exists()


def test_link_in_a_store_is_not_followed(store, tmp_path):
    """A stranger's store must not make prune remove what is elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.keys").write_bytes(bytes(36))
    (store.path / ("a" * 64)).symlink_to(elsewhere)
    prune(store.path, unused_since=date.today() + timedelta(days=1))
    assert (elsewhere / "mine.keys").exists()


@pytest.mark.parametrize("size", [-5, 0, 1.5, True, "abc", 10**13])
def test_recipe_with_an_impossible_size_of_values_goes(store, size):
    content = {"value_bytes": size}
    folder = store.path / fingerprint_of(content)
    folder.mkdir()
    write_json(folder / RECIPE, content)
    (folder / "0123.keys").write_bytes(bytes(36))
    prune(store.path, damaged=True)
    assert not folder.exists()
    assert store.folder.exists()
