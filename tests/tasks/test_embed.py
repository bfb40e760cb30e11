import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from tasks.data.health.hashes import read_hashes
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import sample_id
from tasks.data.vectors.embeddings import read_embeddings
from tasks.embed import probed, strength_of
from tasks.images.alterations import ALTERED_COPIES
from tasks.images.copy_hash import copy_hashes
from tasks.models.bundle import save_bundle
from tasks.models.classifier import Classifier
from tasks.models.description import with_digest
from tasks.models.weights import load_backbone

GLYPHS = Path(__file__).parents[2] / "backbones/glyphs.safetensors"


@pytest.fixture
def bundle(workspace):
    """The shipped backbone as the stage `backbone` leaves it, for small pictures."""
    folder = workspace / "backbone"
    folder.mkdir()
    features = ["stage2", "stage3", "stage4", "conv5"]
    backbone = load_backbone("shufflenet_v2_x1_0", weights=str(GLYPHS), features=features, image_size=32)
    save_bundle(folder, Classifier(backbone, {}), lineage={"fingerprint": backbone.fingerprint()})
    return folder


@pytest.fixture
def listed(workspace, batch):
    """Writes the manifest of what lies in `batch`, or of some of it."""

    def write(paths=None, *, splits=("train", "val", "heldout"), width=16):
        paths = paths or sorted(str(path.relative_to(batch)) for path in batch.rglob("*.png"))
        table = pd.DataFrame(
            {
                "batch": batch.name,
                "path": paths,
                "sample_id": [sample_id((batch / path).read_bytes()) for path in paths],
                "split": [splits[number % len(splits)] for number in range(len(paths))],
                "width": width,
                "height": 16,
            }
        )
        (workspace / "manifest").mkdir(exist_ok=True)
        write_table(workspace / "manifest" / f"{batch.name}.parquet", table)
        return paths

    return write


@pytest.fixture
def embed(shell, batch, bundle):
    """Runs the verb; `out` is what the two files of the batch lie in, `embeddings` and `hashes`."""

    def run(out="out", store="store", **options):
        return shell(
            "embed", "--raw", batch, "--manifest", f"manifest/{batch.name}.parquet", "--backbone", bundle,
            "--store", store, "--out", f"{out}/embeddings/{batch.name}.safetensors",
            "--hashes", f"{out}/hashes/{batch.name}.safetensors",
            **options,
        )  # fmt: skip

    return run


def outputs(workspace, batch, out="out"):
    return [(workspace / out / kind / f"{batch.name}.safetensors").read_bytes() for kind in ("embeddings", "hashes")]


def counted(done):
    """How many samples were embedded, as the log says; asserts that the run ended well."""
    assert done.status == 0, done.stderr
    return int(re.search(r"^embedded (\d+) of ", done.stderr, flags=re.MULTILINE)[1])


def test_vectors_and_hashes_are_in_the_order_of_the_manifest(embed, listed, workspace, batch, picture):
    order = listed(["dog/0.png", "cat/0.png", "dog/2.png"])
    assert counted(embed()) == 3
    hashes, _ = read_hashes(workspace / "out/hashes", [batch.name], num_samples=3)
    assert all(np.array_equal(hashes[row], copy_hashes(picture(seed))) for row, seed in enumerate([3, 0, 5]))
    vectors = read_embeddings(workspace / "out/embeddings", [batch.name], num_samples=3)[:]
    listed(order[::-1])
    assert counted(embed(store="another")) == 3
    assert np.array_equal(read_embeddings(workspace / "out/embeddings", [batch.name], num_samples=3)[:], vectors[::-1])


def test_only_what_is_new_is_embedded_and_the_bytes_are_those_of_a_first_run(embed, listed, workspace, batch, picture):
    listed()
    assert counted(embed()) == 6
    picture(50).save(batch / "cat" / "new.png")
    listed()
    assert counted(embed()) == 1
    assert counted(embed(out="fresh", store="another")) == 7
    assert outputs(workspace, batch) == outputs(workspace, batch, "fresh")


def test_store_gives_back_what_it_has_though_the_file_is_gone(embed, listed, workspace, batch):
    """A clone that has the store and not the raw data can make the embeddings again."""
    listed()
    assert counted(embed()) == 6
    before = outputs(workspace, batch)
    shutil.rmtree(workspace / "out")
    shutil.rmtree(batch)
    assert counted(embed()) == 0
    assert outputs(workspace, batch) == before


def test_bundle_whose_transform_was_changed_by_hand_gets_no_vectors_of_the_old_one(embed, listed, bundle):
    listed()
    assert counted(embed()) == 6
    description = json.loads((bundle / "model.json").read_text("utf-8"))
    description["transform"]["mean"] = [0.1, 0.1, 0.1]
    (bundle / "model.json").write_text(json.dumps(with_digest(description)), "utf-8")
    assert counted(embed()) == 6


def test_recipe_stands_in_the_header(embed, listed, workspace, batch):
    listed()
    embed()
    with safe_open(workspace / f"out/embeddings/{batch.name}.safetensors", framework="np") as file:
        assert re.fullmatch("[0-9a-f]{64}", file.metadata()["recipe"])


def test_batch_without_samples_has_no_vectors(embed, listed, workspace, batch):
    listed()
    table = pd.read_parquet(workspace / "manifest" / f"{batch.name}.parquet")[:0]
    write_table(workspace / "manifest" / f"{batch.name}.parquet", table)
    assert counted(embed()) == 0
    assert read_embeddings(workspace / "out/embeddings", [batch.name], num_samples=0).shape[0] == 0


def test_sample_that_vanished_is_named_and_the_rest_need_not_be_computed_again(
    embed, listed, workspace, batch, picture
):
    for number in range(40):
        picture(100 + number).save(batch / "dog" / f"more-{number:02d}.png")
    listed()
    (batch / "dog" / "more-39.png").unlink()
    done = embed()
    assert re.fullmatch(r"sample .*dog/more-39\.png is missing: restore it, or run `dvc pull .*`", done.error)
    assert not (workspace / "out" / "embeddings").exists()
    picture(139).save(batch / "dog" / "more-39.png")
    assert counted(embed()) < 46


def test_sample_that_changed_since_it_was_validated_is_named(embed, listed, batch, picture):
    listed()
    picture(99).save(batch / "cat" / "1.png")
    assert "cat/1.png changed after it was validated" in embed().error


def test_folder_in_the_place_of_a_sample_is_told_by_its_name(embed, listed, batch):
    listed()
    (batch / "cat" / "1.png").unlink()
    (batch / "cat" / "1.png").mkdir()
    assert re.search(r"sample .*cat/1\.png cannot be read", embed().error)


def test_full_disk_is_told_in_one_line_and_leaves_no_half_of_a_file(embed, listed, workspace):
    listed()
    done = embed(max_file_bytes=4000)
    assert "store" in done.error
    assert "File too large" in done.error
    assert not list(workspace.glob("out/**/*.safetensors*"))
    assert counted(embed()) == 6


def test_folder_of_something_else_is_no_store(embed, listed, workspace):
    listed()
    (workspace / "photos").mkdir()
    (workspace / "photos" / "cat.png").write_bytes(b"a picture")
    assert "photos holds other files and no embedding store" in embed(store="photos").error
    assert (workspace / "photos" / "cat.png").read_bytes() == b"a picture"


def test_damaged_store_is_refused_by_name_and_mended_on_request(embed, listed, shell, workspace, batch):
    listed()
    embed()
    before = outputs(workspace, batch)
    values = max((workspace / "store").glob("*/*.values"), key=lambda path: path.stat().st_size)
    values.write_bytes(values.read_bytes()[:-1] + b"\xff")
    assert values.name in (error := embed().error)
    assert "prune --store" in error
    assert shell("prune", "--store", "store", "--damaged").status == 0
    assert counted(embed()) in (0, 1)  # the last value may be a probe's
    assert outputs(workspace, batch) == before


def probes(workspace, batch, n):
    return read_hashes(workspace / "out/hashes", [batch.name], num_samples=n)[1]


def test_probes_have_a_row_a_sample_and_a_column_a_kind(embed, listed, workspace, batch):
    listed()
    embed()
    found = probes(workspace, batch, 6)
    assert found.kinds == tuple(ALTERED_COPIES)
    assert found.cosines.shape == found.distances.shape == (1, len(ALTERED_COPIES))  # one in 50
    assert (found.cosines > 0.5).all()
    assert (found.distances[:, found.kinds.index("flipped")] < 40).all()


def test_probed_samples_are_altered_weakly_and_strongly():
    rows = pd.DataFrame({"sample_id": [sample_id(bytes([n % 256, n // 256])) for n in range(5000)], "split": "train"})
    chosen = probed(rows, may_be_altered=lambda rows: rows["split"] == "train", num_probed=32)
    strengths = sorted(strength_of(identity) for identity in rows["sample_id"].iloc[chosen])
    assert strengths[3] < 0.25
    assert strengths[-4] > 0.75


@pytest.mark.parametrize("split", ["heldout", "pool"])
def test_samples_of_held_out_and_the_pool_are_embedded_and_not_probed(embed, listed, workspace, batch, split):
    listed(splits=(split,))
    assert counted(embed()) == 6
    assert probes(workspace, batch, 6).cosines.shape == (0, len(ALTERED_COPIES))


def test_picture_too_long_for_a_jpeg_is_not_probed(embed, listed, workspace, batch):
    listed(width=70_000)
    embed()
    assert probes(workspace, batch, 6).cosines.shape == (0, len(ALTERED_COPIES))
