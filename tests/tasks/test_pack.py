"""A batch that is packed into shards is the same batch, and comes back as it was."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.data.raw.files import walk
from tasks.data.raw.layouts import find_entries
from tasks.data.raw.options import PackOptions, TextTables
from tasks.data.samples import parquet_cells
from tasks.data.samples.contents import read_content
from tasks.data.samples.packed import INDEX, SHARDS, open_pack
from tasks.data.samples.text_cells import read_text
from tasks.pack import parts, run, swapped
from tasks.prediction.inputs import find_inputs, read_input
from tasks.stage.params import load_params
from tests.kit.chain import FEW_FEATURES, ROOT, Chain

PACK = PackOptions(pack_above=10, shard_megabytes=1)


def pack(raw, **options):
    run(raw=raw, ingest=PACK, **{"to": None, "unpack": False, "list_files": False, "local": False} | options)


def contents(folder):
    """The bytes of every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def write_digits(folder, *, num=240):
    """Write class folders of digits among files that are no samples, and defects."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number in range(num):
        file = folder / f"digit {digits.target[number] % 3}" / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 15.9).astype(np.uint8)).resize((16, 16)).save(file)
    first = folder / "digit 0"
    (first / "copy.png").write_bytes((first / "000.png").read_bytes())
    (first / "notes.txt").write_text("not an image")
    (first / ".hidden.png").write_bytes((first / "000.png").read_bytes())
    (first / "torn.png").write_bytes((first / "000.png").read_bytes()[:60])
    (first / "empty.png").touch()
    (folder / "digit 3").mkdir()
    return folder


@pytest.fixture
def digits(tmp_path):
    return write_digits(tmp_path / "raw/first")


@pytest.fixture
def packed(tmp_path):
    """Random files that fill several shards."""
    rng = np.random.default_rng(0)
    for number in range(60):
        file = tmp_path / f"raw/noise/{'ab'[number % 2]}/{number:02d}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(rng.bytes(100_000))
    pack(tmp_path / "raw/noise")
    return tmp_path / "raw/noise"


def test_packed_batch_gives_every_stage_the_same_bytes(tmp_path, great_expectations):
    params = load_params(ROOT / "params.yaml")
    short = {
        "backbone": replace(params.backbone, **FEW_FEATURES),
        "finetune": replace(params.finetune, epochs=1, num_views=1),
    }
    loose, packed = (Chain(tmp_path / name, **short) for name in ("loose", "packed"))
    for chain in (loose, packed):
        write_digits(chain.data / "raw/first")
        if chain is packed:
            pack(chain.data / "raw/first")
            assert not list((chain.data / "raw/first").rglob("*.png"))
        chain.do("scan", "validate", "backbone", "embed", "audit", "train_head")
    for folder in ("scanned", "validated", "embeddings", "hashes", "audit", "head"):
        assert contents(loose.data / folder) == contents(packed.data / folder), folder
    reasons = pd.read_csv(packed.data / "validated/quarantine.csv")["reason"]
    assert {"not_a_sample", "hidden_file", "truncated", "empty_file", "exact_duplicate"} <= set(reasons)
    packed.do("finetune", "adapt", "evaluate", "regression", "report")
    assert not list((packed.data / "raw/first").rglob("*.png"))
    assert "data:image/" in (packed.folder / "report.html").read_text("utf-8")  # the page shows samples


def test_packing_keeps_all_that_a_table_of_labels_says(tmp_path):
    raw = tmp_path / "raw"
    for number in range(20):
        file = raw / f"photos/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(file)
    rows = [f"{number},{'ab'[number % 2]},{number // 4}" for number in (*range(18), 99)]
    (raw / "labels.csv").write_text("\n".join(["path,label,group", *rows]))
    before = find_entries(raw, endings=(".png",))
    pack(raw)
    assert find_entries(raw, endings=(".png",)) == before
    assert {entry.reason for entry in before} == {"", "missing_file"}
    assert sorted(path.name for path in raw.iterdir())[0] == "labels.csv"  # a table stays a file


def test_texts_in_files_are_packed_with_their_encodings(tmp_path):
    raw = tmp_path / "raw"
    for number in range(12):
        file = raw / f"{'ab'[number % 2]}/{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"Übung {number}\r\n".encode("cp1252" if number % 3 else "utf-8"))
    options = TextTables(text_columns=None, encoding="cp1252")
    before = find_entries(raw, endings=(".txt",), texts=options)
    texts = [read_text(raw / entry.path) for entry in before]
    pack(raw)
    assert find_entries(raw, endings=(".txt",), texts=options) == before
    assert [read_text(raw / entry.path) for entry in before] == texts
    assert texts[0] == '["Übung 0"]'.encode()


def test_folder_that_is_packed_can_be_predicted_in_the_same_order(digits):
    def found():
        items = [item for item in find_inputs([digits]) if not item.reason]
        return [(item.path, read_input(item, max_file_bytes=10**6)) for item in items]

    before = found()
    pack(digits)
    assert found() == before


def test_unpacking_brings_the_same_files_back(digits):
    before = contents(digits)
    pack(digits)
    assert INDEX in contents(digits)
    pack(digits, unpack=True)
    assert contents(digits) == before


def test_equal_batches_give_equal_shards_and_a_mended_file_changes_few(packed, tmp_path):
    copy = shutil.copytree(packed, tmp_path / "raw/copy")
    before = contents(packed)
    assert len(before) > 4
    pack(copy, unpack=True)
    pack(copy)
    assert contents(copy) == before
    pack(copy, unpack=True)
    (copy / "a/30.bin").write_bytes(b"mended")
    pack(copy)
    new = contents(copy).keys() - before.keys()
    assert 1 <= len(new) <= 2


def test_file_that_is_put_beside_a_pack_is_packed_with_the_others(packed):
    (packed / "a").mkdir()
    (packed / "a/new.bin").write_bytes(b"new")
    assert "a/new.bin" in walk(packed)[0]
    pack(packed)
    assert not (packed / "a").exists()
    assert read_content(packed / "a/new.bin") == b"new"
    assert len(walk(packed)[0]) == 61


def test_shards_are_neither_tiny_nor_huge():
    files = [(f"{number:04d}", np.random.default_rng(number).bytes(50_000)) for number in range(400)]
    sizes = [sum(len(content) for _, content in part) for part in parts(files, mean_bytes=10**6)]
    assert sum(sizes) == 400 * 50_000
    assert all(250_000 <= size <= 2_000_000 for size in sizes[:-1])


def test_pack_inside_a_pack_that_would_hide_its_files_is_refused(packed):
    (packed / "a").mkdir()
    (packed / "a/new.bin").write_bytes(b"new")
    pack(packed / "a")
    with pytest.raises(ValueError, match="noise/a is packed, and a pack around it holds files of it, too: unpack"):
        find_entries(packed)
    pack(packed / "a", unpack=True)
    assert len(walk(packed)[0]) == 61


def test_batch_of_tables_has_nothing_to_pack_and_stays(tmp_path, caplog):
    for number in range(12):
        (tmp_path / f"{number}.csv").write_text("text,label\nHello,a\n")
    before = contents(tmp_path)
    with caplog.at_level("INFO"):
        pack(tmp_path)
    assert contents(tmp_path) == before
    assert "has no files to pack" in caplog.text


def test_folder_of_batches_a_link_and_a_pipe_are_not_packed(digits, tmp_path):
    (digits.parent / "first.dvc").touch()
    with pytest.raises(ValueError, match="raw holds batches, such as first: name one of them"):
        pack(digits.parent)
    (tmp_path / "link").symlink_to(digits)
    with pytest.raises(ValueError, match="link is a link"):
        pack(tmp_path / "link")
    os.mkfifo(digits / "pipe")
    with pytest.raises(ValueError, match="pipe is no regular file"):
        pack(digits)


def test_shards_for_an_address_need_no_room_for_the_whole_batch(packed, monkeypatch):
    pack(packed, unpack=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 3 * 10**6))
    with pytest.raises(OSError, match="needs 6,000,000 bytes, and there is room for 3,000,000"):
        pack(packed)
    pack(packed, to="memory://packs/noise")
    assert sorted(contents(packed)) == [INDEX]


def test_run_that_is_interrupted_leaves_the_batch_as_it_was(digits):
    before = contents(digits)

    def interrupted():
        with swapped(digits) as beside:
            (beside / "half").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(digits) == before
    assert [path.name for path in digits.parent.iterdir()] == ["first"]


def test_run_that_is_killed_between_two_renames_is_put_right_by_the_next(digits):
    before = contents(digits)
    digits.rename(digits.with_name(".first.before"))
    pack(digits)
    digits.with_name(".first.packing").mkdir()  # of another run, killed before
    pack(digits)
    assert [path.name for path in digits.parent.iterdir()] == ["first"]
    pack(digits, unpack=True)
    assert contents(digits) == before


def test_missing_or_torn_shard_is_named_before_anything_is_read(packed):
    shards = sorted(packed.glob("packed-*.parquet"))
    content = shards[0].read_bytes()
    shards[0].write_bytes(content[:-10])
    with pytest.raises(ValueError, match=rf"{shards[0].name} has {len(content) - 10} bytes, expected {len(content)}"):
        find_entries(packed)
    for shard in shards:
        shard.unlink()
    with pytest.raises(ValueError, match=r"the shard .* is missing \(and \d+ more like it\): restore it, or run `dvc"):
        find_entries(packed)


def test_shards_without_an_index_are_refused(packed):
    (packed / INDEX).unlink()
    with pytest.raises(ValueError, match=f"holds the shard packed-.*, but no index {INDEX}"):
        find_entries(packed)


def test_shard_from_another_batch_gives_no_bytes(packed):
    shards = sorted(packed.glob("packed-*.parquet"), key=lambda path: path.stat().st_size)
    table = pq.read_table(shards[0])
    strangers = pa.table({"path": table["path"], "content": pa.array([b"bad"] * len(table), pa.binary())})
    pq.write_table(strangers, shards[0])
    with pytest.raises(parquet_cells.UnreadableTableError, match=r"is not the one that packed\.parquet lists"):
        read_content(packed / table["path"][0].as_py())


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        (["../../secret"], "has '.' or '..' in it"),
        (["/etc/passwd"], "is absolute"),
        (["b", "a"], "not sorted"),
        (["a", "a"], "not sorted"),
        (["a"] * 2, "not sorted"),
        (["a", None], "without a path"),
    ],
)
def test_index_from_a_stranger_is_refused(packed, paths, problem):
    shards = json.loads(pq.read_schema(packed / INDEX).metadata[SHARDS])
    shards["shards"] = [shards["shards"][0] | {"rows": len(paths)}]
    index = pa.table({"path": pa.array(paths, pa.string()), "bytes": pa.array([1] * len(paths), pa.int64())})
    pq.write_table(index.replace_schema_metadata({SHARDS: json.dumps(shards).encode()}), packed / INDEX)
    with pytest.raises(ValueError, match=problem):
        find_entries(packed)


def test_small_index_that_stands_for_gigabytes_is_refused(packed):
    metadata = {SHARDS: pq.read_schema(packed / INDEX).metadata[SHARDS]}
    schema = pa.schema([("path", pa.string()), ("bytes", pa.int64())], metadata=metadata)
    with pq.ParquetWriter(packed / INDEX, schema, compression="zstd", use_dictionary=False) as writer:
        for number in range(20):
            paths = pa.array(["a" * 10_000 + f"{number:03d}{row:04d}" for row in range(1000)])
            writer.write_table(pa.table([paths, pa.array([1] * 1000, pa.int64())], schema=schema))
    assert (packed / INDEX).stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"more than \d+ bytes of paths"):
        find_entries(packed)


def test_path_of_thousands_of_folders_in_an_index_is_refused(packed):
    metadata = {SHARDS: pq.read_schema(packed / INDEX).metadata[SHARDS]}
    shards = json.loads(metadata[SHARDS])
    metadata[SHARDS] = json.dumps(shards | {"shards": [shards["shards"][0] | {"rows": 1}]}).encode()
    index = pa.table({"path": ["a/" * 60_000 + "x"], "bytes": [1]})  # as many names of folders take 7 GB
    pq.write_table(index.replace_schema_metadata(metadata), packed / INDEX)
    with pytest.raises(ValueError, match="has a path of more than 4,096 bytes"):
        find_entries(packed)


def test_torn_index_is_named(packed):
    file = packed / INDEX
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=f"{file} cannot be read .*: restore it"):
        find_entries(packed)


def test_file_beside_the_pack_that_holds_it_too_is_refused(packed):
    (packed / "a").mkdir()
    (packed / "a/00.bin").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"a/00\.bin lies beside"):
        find_entries(packed)


def test_users_own_table_of_that_name_is_no_pack(tmp_path):
    pq.write_table(pa.table({"image": [b"x"], "label": ["a"]}), tmp_path / INDEX)
    assert open_pack(tmp_path) is None
    assert [entry.path for entry in find_entries(tmp_path)] == [f"{INDEX}/0"]
    with pytest.raises(ValueError, match="has the name of a file of a pack: rename it"):
        pack(tmp_path)


def test_link_is_not_packed_without_a_word(digits, tmp_path):
    (tmp_path / "elsewhere.png").write_bytes(b"x")
    (digits / "digit 1/link.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(ValueError, match=r"link\.png is a link: put the file itself there"):
        pack(digits)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # botocore and moto cause them
class TestAtAnAddress:
    @pytest.fixture
    def away(self, digits, bucket):
        """A batch whose shards lie in a bucket, and the same batch as files."""
        loose = shutil.copytree(digits, digits.with_name("loose"))
        pack(digits, to="s3://door/photos/first")
        return digits, loose

    def test_shards_in_a_bucket_are_read_without_a_copy(self, away, tmp_path, great_expectations):
        far, loose = away
        assert sorted(contents(far)) == [INDEX]
        chains = {}
        for name, raw in (("far", far), ("loose", loose)):
            chains[name] = Chain(tmp_path / name)
            shutil.copytree(raw, chains[name].data / "raw/first")
            chains[name].do("scan", "validate", "backbone", "embed")
        for folder in ("scanned", "validated", "embeddings"):
            assert contents(chains["far"].data / folder) == contents(chains["loose"].data / folder), folder
        assert sorted(contents(chains["far"].data / "raw/first")) == [INDEX]

    def test_unpacking_brings_them_home(self, away):
        far, loose = away
        pack(far, unpack=True)
        assert contents(far) == contents(loose)

    def test_second_run_puts_nothing_there_again(self, away, caplog):
        far, _ = away
        with caplog.at_level("INFO"):
            pack(far, to="s3://door/photos/first")
        assert "is packed already" in caplog.text

    def test_missing_shard_is_named_before_anything_is_read(self, away):
        import boto3

        far, _ = away
        [name] = [shard.name for shard in open_pack(far).shards]
        boto3.client("s3").delete_object(Bucket="door", Key=f"photos/first/{name}")
        with pytest.raises((ValueError, OSError), match="s3://door/photos/first"):
            find_entries(far)

    def test_bucket_that_is_not_there_is_named_and_the_batch_stays(self, digits, bucket):
        before = contents(digits)
        with pytest.raises(OSError, match=r"s3://nowhere/photos.*: check the address"):
            pack(digits, to="s3://nowhere/photos")
        assert contents(digits) == before

    def test_stranger_who_names_an_address_is_refused(self, away):
        far, _ = away
        with pytest.raises(ValueError, match="names shards at s3://door/photos/first: put the shards beside it"):
            pack(far, local=True)
