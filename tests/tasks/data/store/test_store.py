"""The embedding store, also as several processes, a kill, a full disk and a careless copy leave it."""

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

# What a child process needs: the same store, and values that can be told from their ids.
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
    """(n, VALUE_BYTES), told by the id."""
    content = b"".join(hashlib.shake_128(each.encode()).digest(VALUE_BYTES) for each in sample_ids)
    return np.frombuffer(content, np.uint8).reshape(-1, VALUE_BYTES)


def fill(store, sample_ids):
    with store.writer() as writer:
        writer.add(sample_ids, values_for(sample_ids))


def holds(store, sample_ids):
    """Whether it has a value of each, and it is the right one, in the order asked."""
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
    """What a script prints that sees a mount of its own over `path`; skips the test where the system allows none."""
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
    """With 10 samples."""
    made = open_store(path)
    fill(made, ids(10))
    return made


def only_segment(store):
    [keys] = store.folder.glob("*.keys")
    return keys


def test_values_come_back_in_the_order_asked(store):
    assert holds(open_store(store.path), ids(10)[::-1])


def test_sample_asked_twice_comes_twice(store):
    asked = [ids(10)[number] for number in (3, 3, 0, 9, 3)]
    assert store.missing(asked).tolist() == []
    assert holds(store, asked)


def test_what_is_missing_is_told_by_position(store):
    asked = ids(12, first=8)
    assert store.missing([*asked, asked[-1]]).tolist() == list(range(2, 13))


def test_nothing_asked_is_nothing_missing(store):
    assert store.missing([]).tolist() == []
    assert list(store.read([])) == []


def test_new_store_misses_everything(path):
    assert open_store(path).missing(ids(3)).tolist() == [0, 1, 2]


def test_more_samples_than_a_chunk_come_in_chunks_in_their_order(path):
    store, asked = open_store(path), ids(2 * CHUNK + 7)
    with store.writer(flush_seconds=0) as writer:
        for start in range(0, len(asked), 500):
            writer.add(asked[start : start + 500], values_for(asked[start : start + 500]))
    random.Random(0).shuffle(asked)
    assert [len(chunk) for chunk in store.read(asked)] == [CHUNK, CHUNK, 7]
    assert holds(store, asked)


def test_samples_of_many_runs_are_read_together(path):
    store, asked = open_store(path), ids(MOST_HELD + 20)
    for each in asked:
        fill(store, [each])
    assert holds(store, asked)


def test_sample_that_was_added_twice_is_one(store):
    with store.writer() as writer:
        writer.add(ids(3) + ids(3), values_for(ids(3) + ids(3)))
    assert holds(store, ids(10))


def test_samples_whose_ids_begin_alike_are_told_apart(path):
    store = open_store(path)
    alike = [f"{'ab' * 8}{number:048x}" for number in range(300)]
    fill(store, alike[:256])
    assert store.missing(alike).tolist() == list(range(256, 300))
    assert holds(store, alike[:256])


def test_value_of_zeros_is_a_value(path):
    store = open_store(path)
    with store.writer() as writer:
        writer.add(["0" * 64], np.zeros((1, VALUE_BYTES), np.uint8))
    assert store.missing(["0" * 64]).tolist() == []
    assert not next(store.read(["0" * 64])).any()


def test_run_that_adds_nothing_leaves_nothing(path):
    store = open_store(path)
    with store.writer() as writer:
        writer.add([], values_for([]))
    assert [each.name for each in path.iterdir()] == [MARKER]


def test_other_recipe_sees_nothing_and_the_first_finds_its_values_again(store):
    other = open_store(store.path, recipe=RECIPE_A | {"precision": "bfloat16"})
    assert len(other.missing(ids(10))) == 10
    fill(other, ids(2))
    assert holds(open_store(store.path, recipe=dict(reversed(RECIPE_A.items()))), ids(10))


def test_values_of_another_size_are_of_another_recipe(store):
    other = Store(store.path, recipe=RECIPE_A, value_bytes=8)
    assert len(other.missing(ids(10))) == 10


def test_what_was_added_before_an_error_stays(path):
    store = open_store(path)
    with contextlib.suppress(RuntimeError), store.writer() as writer:
        writer.add(ids(5), values_for(ids(5)))
        raise RuntimeError
    assert holds(store, ids(5))


def test_sample_that_has_no_value_is_named(store):
    with pytest.raises(
        ValueError, match=rf"has no value of 2 of 12 samples, the first is {ids(11)[10][:12]}: run embed"
    ):
        next(store.read(ids(12)))


@pytest.mark.parametrize("wrong", ["ab", "zz" * 32, " " * 64, "ab " * 21 + "c", "é" * 64])
def test_id_that_is_no_sha256_is_refused_by_name(store, wrong):
    with pytest.raises(ValueError, match=f"the sample id {wrong!r} is no SHA-256 in hex"):
        store.missing([ids(1)[0], wrong])


def test_store_may_be_pruned_while_a_run_reads(path):
    store, asked = open_store(path), ids(CHUNK + 1)
    fill(store, asked)
    chunks = store.read(asked)
    first = next(chunks)
    for each in store.folder.iterdir():
        each.unlink()
    assert np.array_equal(np.concatenate([first, *chunks]), values_for(asked))
    assert len(store.missing(asked)) == len(asked)


def test_segment_that_lost_its_values_is_not_there(store):
    values_of(only_segment(store)).unlink()
    assert len(store.missing(ids(10))) == 10


def test_reading_marks_what_it_read_as_used(store):
    keys = only_segment(store)
    os.utime(keys, (0, 0))
    store.missing(ids(10))
    assert keys.stat().st_mtime == 0
    list(store.read(ids(1)))
    assert keys.stat().st_mtime > time.time() - 3600


@pytest.mark.parametrize("torn_bytes", [1, 35])
def test_key_that_was_cut_off_is_not_there_and_the_others_are(store, torn_bytes):
    keys = only_segment(store)
    os.truncate(keys, 9 * 36 + torn_bytes)
    assert store.missing(ids(10)).tolist() == [9]
    assert holds(store, ids(9))


def test_values_without_a_key_are_not_there(store):
    os.truncate(only_segment(store), 0)
    assert len(store.missing(ids(10))) == 10


REFUSED = (
    r"{values} holds a value that does not match its checksum: run `python -m tasks.prune --store {path} --damaged`"
)


@pytest.mark.parametrize("harm", ["flipped", "short", "gone", "longer"])
def test_damaged_value_is_refused_with_what_to_do_and_the_others_are_read(store, harm):
    values = values_of(only_segment(store))
    content = bytearray(values.read_bytes())
    content[-VALUE_BYTES] ^= 1
    values.write_bytes(
        {"flipped": content, "short": content[:-1], "gone": content[:-VALUE_BYTES], "longer": content + b"x"}[harm]
    )
    with pytest.raises(ValueError, match=REFUSED.format(values=values, path=store.path)):
        list(store.read(ids(10)))
    assert holds(store, ids(9))


def test_file_is_refused_as_a_store(tmp_path):
    (tmp_path / "store").write_text("a file", "utf-8")
    with pytest.raises(ValueError, match=r"store is a file, expected the folder of an embedding store"):
        open_store(tmp_path / "store")


def test_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds other files and no embedding store: name an empty or new folder"):
        open_store(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_folder_with_hidden_files_alone_is_empty(tmp_path):
    (tmp_path / ".DS_Store").touch()
    fill(open_store(tmp_path), ids(1))
    assert holds(open_store(tmp_path), ids(1))


@pytest.mark.parametrize("content", ['{"format": 2}', "[]", '{"form', "", "\ud800", "[" * 100_000])
def test_store_of_another_format_is_refused(store, content):
    (store.path / MARKER).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=rf'{MARKER} says .*, expected {{"format": 1}}: name another folder'):
        open_store(store.path)


@pytest.mark.parametrize("content", ['{"architecture": "b"}', "[]", '{"arch', ""])
def test_damaged_recipe_is_refused_with_what_to_do(store, content):
    (store.folder / RECIPE).write_text(content, "utf-8")
    with pytest.raises(ValueError, match=rf"{RECIPE} does not say what .*prune --store {store.path} --damaged"):
        open_store(store.path)


def test_runs_that_begin_a_store_at_once_share_it(path):
    script = """
sys.stdin.readline()
mine = ids(200, first=int(sys.argv[2]))
with open_store(path).writer(flush_seconds=0) as writer:
    for each in mine:
        writer.add([each], values_for([each]))
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


def test_killed_run_loses_only_what_it_had_not_flushed(path):
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
        store, asked = open_store(path), ids(flushed + 7 - first, first=first)
        missing = store.missing(asked)
        assert not len(missing) or missing[0] >= flushed - first
        assert holds(store, asked[: len(asked) - len(missing)])


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


def test_full_disk_is_named_and_what_was_flushed_stays(path):
    path.mkdir(parents=True)
    out = in_own_mounts('mount -t tmpfs -o size=256k tmpfs "$path"', FULL, path)
    error, counts = out.splitlines()
    assert error.startswith("[Errno 28] No space left on device: ")
    assert str(path) in error
    num_flushed, num_missing = map(int, counts.split())
    assert num_flushed >= 100
    assert num_missing == 0


def test_file_that_may_not_grow_is_named_and_what_was_flushed_stays(path):
    script = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with open_store(path).writer(flush_seconds=0) as writer:
    for each in ids(100_000):
        try:
            writer.add([each], values_for([each]))
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


def test_store_that_may_only_be_read_is_read(store):
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


def test_folder_that_may_not_be_written_is_told_by_the_system(path):
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


def test_recipe_that_says_its_size_is_readable_for_people(store):
    write_json(store.path.parent / "expected.json", RECIPE_A | {"value_bytes": VALUE_BYTES})
    assert (store.folder / RECIPE).read_bytes() == (store.path.parent / "expected.json").read_bytes()
