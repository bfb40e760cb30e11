"""The embedding store, also with several processes, after a kill, on a full disk and with damaged files."""

import contextlib
import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tasks.data.store.segments import values_of
from tasks.data.store.store import CHUNK, MARKER, MOST_HELD, RECIPE, Store
from tasks.machine.files import write_json

ROOT = Path(__file__).parents[4]
RECIPE_A = {"architecture": "a", "precision": "float32"}
VALUE_BYTES = 64

# for a child process: the same store, and values that follow from their ids
PRELUDE = """
import sys
from pathlib import Path
import numpy as np
from tests.tasks.data.store.test_store import VALUE_BYTES, ids, open_store, values_for
path = Path(sys.argv[1])
"""


def open_store(path, *, recipe=RECIPE_A):
    return Store(path, recipe=recipe, value_bytes=VALUE_BYTES)


def ids(count, *, first=0):
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(first, first + count)]


def values_for(sample_ids):
    """Return values (n, VALUE_BYTES) that follow from the ids."""
    content = b"".join(hashlib.shake_128(sample_id.encode()).digest(VALUE_BYTES) for sample_id in sample_ids)
    return np.frombuffer(content, np.uint8).reshape(-1, VALUE_BYTES)


def fill(store, sample_ids):
    with store.writer() as writer:
        writer.add(sample_ids, values_for(sample_ids))


def holds(store, sample_ids):
    """Return whether the store gives the right value of each sample, in the requested order."""
    parts = [np.empty((0, VALUE_BYTES), np.uint8), *store.read(sample_ids)]
    return np.array_equal(np.concatenate(parts), values_for(sample_ids))


def child(script, *arguments, before=(), **settings):
    return subprocess.Popen(
        [*before, sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def in_own_mounts(mount, script, path):
    """Return the output of a script with a mount of its own over `path`; skip the test if the system allows none."""
    before = ["unshare", "--mount", "--map-root-user", "sh", "-c", f'path="$4"; {mount} || exit 99; exec "$@"', "sh"]
    try:
        out, errors = (process := child(script, path, before=before)).communicate(timeout=60)
    except FileNotFoundError:
        pytest.skip("there is no unshare on this system")
    if process.returncode == 99 or errors.startswith("unshare:"):
        pytest.skip(f"this system allows no mounts: {errors.strip()}")
    assert process.returncode == 0, errors
    return out


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "store"


@pytest.fixture
def store(path):
    """Return a store with the values of 10 samples."""
    store = open_store(path)
    fill(store, ids(10))
    return store


def only_segment(store):
    [keys] = store.folder.glob("*.keys")
    return keys


def test_values_are_read_in_the_requested_order(store):
    assert holds(open_store(store.path), ids(10)[::-1])


def test_sample_that_is_requested_twice_is_read_twice(store):
    sample_ids = [ids(10)[number] for number in (3, 3, 0, 9, 3)]
    assert store.missing(sample_ids).tolist() == []
    assert holds(store, sample_ids)


def test_missing_samples_are_returned_by_position(store):
    sample_ids = ids(12, first=8)
    assert store.missing([*sample_ids, sample_ids[-1]]).tolist() == list(range(2, 13))


def test_empty_request_has_no_missing_samples(store):
    assert store.missing([]).tolist() == []
    assert list(store.read([])) == []


def test_new_store_has_no_values(path):
    assert open_store(path).missing(ids(3)).tolist() == [0, 1, 2]


def test_many_samples_are_read_in_chunks_in_their_order(path):
    store, sample_ids = open_store(path), ids(2 * CHUNK + 7)
    with store.writer(flush_seconds=0) as writer:
        for start in range(0, len(sample_ids), 500):
            writer.add(sample_ids[start : start + 500], values_for(sample_ids[start : start + 500]))
    random.Random(0).shuffle(sample_ids)
    assert [len(chunk) for chunk in store.read(sample_ids)] == [CHUNK, CHUNK, 7]
    assert holds(store, sample_ids)


def test_samples_of_many_runs_are_read_together(path):
    store, sample_ids = open_store(path), ids(MOST_HELD + 20)
    for sample_id in sample_ids:
        fill(store, [sample_id])
    assert holds(store, sample_ids)


def test_sample_that_was_added_twice_is_read_once(store):
    with store.writer() as writer:
        writer.add(ids(3) + ids(3), values_for(ids(3) + ids(3)))
    assert holds(store, ids(10))


def test_samples_whose_ids_begin_alike_are_distinguished(path):
    store = open_store(path)
    alike = [f"{'ab' * 8}{number:048x}" for number in range(300)]
    fill(store, alike[:256])
    assert store.missing(alike).tolist() == list(range(256, 300))
    assert holds(store, alike[:256])


def test_value_of_zeros_is_not_missing(path):
    store = open_store(path)
    with store.writer() as writer:
        writer.add(["0" * 64], np.zeros((1, VALUE_BYTES), np.uint8))
    assert store.missing(["0" * 64]).tolist() == []
    assert not next(store.read(["0" * 64])).any()


def test_run_that_adds_nothing_makes_no_file(path):
    store = open_store(path)
    with store.writer() as writer:
        writer.add([], values_for([]))
    assert [entry.name for entry in path.iterdir()] == [MARKER]


def test_recipes_do_not_see_the_values_of_each_other(store):
    other = open_store(store.path, recipe=RECIPE_A | {"precision": "bfloat16"})
    assert len(other.missing(ids(10))) == 10
    fill(other, ids(2))
    assert holds(open_store(store.path, recipe=dict(reversed(RECIPE_A.items()))), ids(10))


def test_values_of_another_size_belong_to_another_recipe(store):
    other = Store(store.path, recipe=RECIPE_A, value_bytes=8)
    assert len(other.missing(ids(10))) == 10


def test_values_that_were_added_before_an_error_stay(path):
    store = open_store(path)
    with contextlib.suppress(RuntimeError), store.writer() as writer:
        writer.add(ids(5), values_for(ids(5)))
        raise RuntimeError
    assert holds(store, ids(5))


def test_error_for_samples_without_a_value_counts_them_and_names_the_first(store):
    with pytest.raises(
        ValueError, match=rf"has no value for 2 of 12 samples, the first is {ids(11)[10][:12]}: run embed"
    ):
        next(store.read(ids(12)))


@pytest.mark.parametrize("wrong", ["ab", "zz" * 32, " " * 64, "ab " * 21 + "c", "é" * 64])
def test_error_for_an_id_that_is_not_a_sha256_names_it(store, wrong):
    with pytest.raises(ValueError, match=f"the sample id {wrong!r} is not a SHA-256 in hex"):
        store.missing([ids(1)[0], wrong])


def test_store_may_be_pruned_while_a_run_reads(path):
    store, sample_ids = open_store(path), ids(CHUNK + 1)
    fill(store, sample_ids)
    chunks = store.read(sample_ids)
    first = next(chunks)
    for file in store.folder.iterdir():
        file.unlink()
    assert np.array_equal(np.concatenate([first, *chunks]), values_for(sample_ids))
    assert len(store.missing(sample_ids)) == len(sample_ids)


def test_segment_without_its_values_is_ignored(store):
    values_of(only_segment(store)).unlink()
    assert len(store.missing(ids(10))) == 10


def test_reading_marks_the_segments_as_used(store):
    keys = only_segment(store)
    os.utime(keys, (0, 0))
    store.missing(ids(10))
    assert keys.stat().st_mtime == 0
    list(store.read(ids(1)))
    assert keys.stat().st_mtime > time.time() - 3600


@pytest.mark.parametrize("torn_bytes", [1, 35])
def test_key_that_is_cut_off_is_ignored_and_the_others_are_read(store, torn_bytes):
    keys = only_segment(store)
    os.truncate(keys, 9 * 36 + torn_bytes)
    assert store.missing(ids(10)).tolist() == [9]
    assert holds(store, ids(9))


def test_values_without_a_key_are_ignored(store):
    os.truncate(only_segment(store), 0)
    assert len(store.missing(ids(10))) == 10


REFUSED = (
    r"{values} holds a value that does not match its checksum: run `python -m tasks.prune --store {path} --damaged` "
    "to remove what is damaged, then run the stage again"
)


@pytest.mark.parametrize("harm", ["flipped", "short", "gone", "longer"])
def test_damaged_value_is_refused_with_the_remedy_and_the_others_are_read(store, harm):
    values = values_of(only_segment(store))
    content = bytearray(values.read_bytes())
    content[-VALUE_BYTES] ^= 1
    values.write_bytes(
        {"flipped": content, "short": content[:-1], "gone": content[:-VALUE_BYTES], "longer": content + b"x"}[harm]
    )
    with pytest.raises(ValueError, match=REFUSED.format(values=values, path=store.path)):
        list(store.read(ids(10)))
    assert holds(store, ids(9))


def test_value_whose_id_was_changed_is_refused(store):
    """Else a sample would get the value of another one."""
    [keys] = store.folder.glob("*.keys")
    stranger = bytes.fromhex(ids(1, first=99)[0])
    with keys.open("r+b") as file:
        file.write(stranger)
    assert len(store.missing(ids(1))) == 1
    with pytest.raises(ValueError, match="does not match its checksum"):
        list(store.read(ids(1, first=99)))
    assert holds(store, ids(9, first=1))


def test_file_in_place_of_a_store_is_refused(tmp_path):
    (tmp_path / "store").write_text("a file", "utf-8")
    with pytest.raises(ValueError, match=r"store is a file, expected the folder of an embedding store"):
        open_store(tmp_path / "store")


def test_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds other files and no embedding store: name an empty or new folder"):
        open_store(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_folder_with_hidden_files_alone_counts_as_empty(tmp_path):
    (tmp_path / ".DS_Store").touch()
    fill(open_store(tmp_path), ids(1))
    assert holds(open_store(tmp_path), ids(1))


@pytest.mark.parametrize("content", ['{"format": 2}', "[]", '{"form', "", "\ud800", "[" * 100_000])
def test_store_of_another_format_is_refused(store, content):
    (store.path / MARKER).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=rf'{MARKER} says .*, expected {{"format": 1}}: name another folder'):
        open_store(store.path)


@pytest.mark.parametrize("content", ['{"architecture": "b"}', "[]", '{"arch', ""])
def test_damaged_recipe_is_refused_with_the_remedy(store, content):
    (store.folder / RECIPE).write_text(content, "utf-8")
    with pytest.raises(ValueError, match=rf"{RECIPE} is not the recipe .*prune --store {store.path} --damaged"):
        open_store(store.path)


def test_runs_that_make_a_store_at_once_share_it(path):
    script = """
sys.stdin.readline()
mine = ids(200, first=int(sys.argv[2]))
with open_store(path).writer(flush_seconds=0) as writer:
    for sample_id in mine:
        writer.add([sample_id], values_for([sample_id]))
"""
    runs = [child(script, path, first) for first in (0, 100, 200)]
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    for run in runs:
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors
    assert holds(open_store(path), ids(400))
    assert len(list(open_store(path).folder.glob("*.keys"))) == 3


def test_killed_run_loses_only_the_values_that_it_had_not_flushed(path):
    script = """
first = int(sys.argv[2])
with open_store(path).writer(flush_seconds=0) as writer:
    for start in range(first, first + 1_000_000, 7):
        writer.add(ids(7, first=start), values_for(ids(7, first=start)))
        print(start + 7, flush=True)
"""
    moments = random.Random(0)
    for first in range(0, 6_000_000, 1_000_000):
        run = child(script, path, first)
        assert run.stdout.readline()
        time.sleep(moments.uniform(0, 0.1))
        run.kill()
        out, _ = run.communicate(timeout=60)
        flushed = int(([str(first + 7), *out.split("\n")[:-1]])[-1])
        store, sample_ids = open_store(path), ids(flushed + 7 - first, first=first)
        missing = store.missing(sample_ids)
        assert not len(missing) or missing[0] >= flushed - first
        assert holds(store, sample_ids[: len(sample_ids) - len(missing)])


FULL = """
store = open_store(path)
flushed = []
try:
    for first in range(0, 1_000_000, 100):
        with store.writer() as writer:
            writer.add(ids(100, first=first), values_for(ids(100, first=first)))
        flushed += ids(100, first=first)
except OSError as error:
    print(error)
print(len(flushed), len(store.missing(flushed)))
assert np.array_equal(np.concatenate(list(store.read(flushed))), values_for(flushed))
"""


def test_full_disk_is_reported_and_flushed_values_stay(path):
    path.mkdir(parents=True)
    out = in_own_mounts('mount -t tmpfs -o size=256k tmpfs "$path"', FULL, path)
    error, counts = out.splitlines()
    assert error.startswith("[Errno 28] No space left on device: ")
    assert str(path) in error
    num_flushed, num_missing = map(int, counts.split())
    assert num_flushed >= 100
    assert num_missing == 0


def test_file_that_cannot_grow_is_reported_and_flushed_values_stay(path):
    script = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with open_store(path).writer(flush_seconds=0) as writer:
    for sample_id in ids(100_000):
        try:
            writer.add([sample_id], values_for([sample_id]))
        except OSError as error:
            print(error)
            raise
"""
    out, errors = child(script, path).communicate(timeout=60)
    store = open_store(path)
    assert out == f"[Errno 27] File too large: '{values_of(only_segment(store))}'\n"
    assert errors.count("Traceback") == 1
    assert holds(store, ids(100_000 // VALUE_BYTES))
    assert len(store.missing(ids(100_000 // VALUE_BYTES + 1))) == 1


def test_read_only_store_is_read(store):
    script = """
store = open_store(path)
try:
    (path / "new").touch()
except OSError as error:
    print(error.strerror)
with store.writer() as writer:
    assert np.array_equal(next(store.read(ids(10))), values_for(ids(10)))
"""
    out = in_own_mounts('mount --bind "$path" "$path" && mount -o remount,bind,ro "$path"', script, store.path)
    assert out == "Read-only file system\n"


def test_error_for_a_read_only_folder_is_that_of_the_system(path):
    path.mkdir(parents=True)
    script = """
try:
    open_store(path)
except OSError as error:
    print(error)
"""
    out = in_own_mounts('mount -t tmpfs -o ro tmpfs "$path"', script, path)
    assert "Read-only file system" in out
    assert MARKER in out


def test_recipe_file_holds_the_recipe_and_the_size_of_a_value(store):
    write_json(store.path.parent / "expected.json", RECIPE_A | {"value_bytes": VALUE_BYTES})
    assert (store.folder / RECIPE).read_bytes() == (store.path.parent / "expected.json").read_bytes()
