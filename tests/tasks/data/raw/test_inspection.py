"""Every sample is decoded once, in a process that it may crash."""

import io
import os
import random
import signal
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tasks.data.raw.inspection import Inspection, inspect_all, inspect_sample
from tasks.data.raw.options import ReadingLimits
from tasks.data.samples.contents import read_content
from tasks.data.samples.defects import DefectError
from tasks.data.samples.samples import sample_id
from tasks.images import decode
from tasks.images.decode import decode_sample, decode_stranger, inspect_content
from tasks.images.options import SizeLimits
from tasks.machine import processes
from tasks.machine.options import ScaleOptions

INSPECT = partial(inspect_content, limits=SizeLimits(min_image_size=8, max_image_pixels=10_000))

LARGE = SizeLimits(min_image_size=8, max_image_pixels=10**7)


def inspected(folder, paths, inspect=INSPECT, *, max_file_bytes=100_000, max_decode_seconds=5.0):
    limits = ReadingLimits(max_file_bytes=max_file_bytes, max_decode_seconds=max_decode_seconds)
    return list(inspect_all(folder, paths, inspect, read=read_content, limits=limits))


@pytest.fixture
def folder(tmp_path, picture, monkeypatch):
    """25 pictures, which three processes are handed in chunks of 8, and a fourth alone."""
    monkeypatch.setattr(processes, "CHUNK", 8)
    for number in range(3 * processes.CHUNK + 1):
        picture(number).save(tmp_path / f"{number:03d}.png")
    return tmp_path


def test_inspections_come_in_the_order_of_the_paths(folder):
    paths = sorted((path.name for path in folder.iterdir()), reverse=True)
    inspections = inspected(folder, paths)
    assert [inspection.sample_id for inspection in inspections] == [
        sample_id((folder / path).read_bytes()) for path in paths
    ]


def test_image_that_kills_its_decoder_is_a_defect_and_costs_no_other_image(folder, monkeypatch):
    open_within = decode._open_within

    def deadly(content, limits):
        if sample_id(content) in killers:
            os.kill(os.getpid(), signal.SIGKILL)
        return open_within(content, limits)

    paths = sorted(each.name for each in folder.iterdir())
    fatal = [2, 10, 11]
    killers = {sample_id((folder / paths[number]).read_bytes()) for number in fatal}
    monkeypatch.setattr(decode, "_open_within", deadly)  # the processes are forked with it
    found = inspected(folder, paths)
    assert [number for number, each in enumerate(found) if each.reason] == fatal
    assert found[2].detail == "its decoder crashed, ran out of memory, or took longer than 5 s"
    assert len(found) == len(paths)


def scanned_over_and_over(times):
    """Return a progressive JPEG that repeats its last scan; each costs the decoder a pass over all pixels."""
    stream = io.BytesIO()
    Image.new("L", (2400, 2400)).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * times + content[-2:]


def test_image_that_would_take_hours_is_a_defect_before_it_is_decoded():
    message = "a JPEG of 20006 scans, expected at most 100"
    with pytest.raises(DefectError, match=message):
        decode_stranger(scanned_over_and_over(20_000), limits=LARGE, shorter_side=None)


@pytest.mark.parametrize("progressive", [True, False])
def test_photograph_with_a_film_behind_it_is_accepted(progressive):
    """Phones append a short film, which may hold any bytes."""
    stream = io.BytesIO()
    thumbnail = Image.Exif()
    thumbnail[0x927C] = 40 * b"\xff\xda\xff\xd9"
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "JPEG", progressive=progressive, exif=thumbnail, restart_marker_blocks=2)
    film = 200 * b"\xff\xda\x00\x08"
    facts = inspect_content(stream.getvalue() + film, limits=LARGE)
    assert (facts.width, facts.format) == (48, "JPEG")


def test_scans_behind_a_note_that_holds_an_end_marker_are_counted():
    content = scanned_over_and_over(100)
    at = content.index(b"\xff\xda")
    note = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"
    with pytest.raises(DefectError, match="a JPEG of 106 scans"):
        inspect_content(content[:at] + note + content[at:], limits=LARGE)


def test_image_that_takes_too_long_is_a_defect(tmp_path, picture):
    (tmp_path / "slow.jpg").write_bytes(scanned_over_and_over(90))
    picture().save(tmp_path / "sound.png")
    inspect = partial(inspect_content, limits=LARGE)
    slow, sound = inspected(tmp_path, ["slow.jpg", "sound.png"], inspect, max_file_bytes=10**9, max_decode_seconds=0.05)
    assert (slow.reason, sound.reason) == ("unreadable", "")
    assert "took longer than 0.05 s" in slow.detail


def test_file_above_the_limit_is_not_read(tmp_path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(10**12)  # takes no room on the disk, and would not fit into memory
    inspection = inspect_sample(tmp_path / "huge.png", INSPECT, read=read_content, max_file_bytes=100_000)
    assert (inspection.reason, inspection.sample_id) == ("too_many_bytes", "")


def test_file_that_disappears_is_a_defect(tmp_path):
    assert (
        inspect_sample(tmp_path / "gone.png", INSPECT, read=read_content, max_file_bytes=100_000).reason
        == "missing_file"
    )


def test_file_that_is_here_and_that_no_node_of_a_cluster_finds_is_no_defect(tmp_path, monkeypatch):
    def there(blocks, work, *, address):
        return ([Inspection(reason="missing_file") for path in block] for block in blocks)

    monkeypatch.setattr("tasks.data.raw.inspection.spread_to_cluster", there)
    (tmp_path / "here.png").write_bytes(b"content")
    inspections = inspect_all(
        tmp_path, ["gone.png", "here.png"], INSPECT, read=read_content,
        limits=ReadingLimits(max_file_bytes=100_000, max_decode_seconds=5.0),
        scale=ScaleOptions(engine="ray", address=None),
    )  # fmt: skip
    assert next(inspections).reason == "missing_file"
    with pytest.raises(ValueError, match=r"here\.png is here, but a node of the Ray cluster does not find it"):
        next(inspections)


def test_defect_of_a_file_that_was_read_has_the_sample_id(tmp_path):
    (tmp_path / "1.png").write_bytes(b"text")
    inspection = inspect_sample(tmp_path / "1.png", INSPECT, read=read_content, max_file_bytes=100_000)
    assert (inspection.reason, inspection.sample_id) == ("not_an_image", sample_id(b"text"))


@pytest.fixture(scope="module")
def real_images(digits):
    """Return real scans in every format that is accepted."""
    contents = []
    for number, path in enumerate(sorted(digits.rglob("*.png"))[::60]):
        scan = Image.open(path).convert("RGB").resize((24 + number, 32))
        for name, options in (
            ("JPEG", {}),
            ("PNG", {}),
            ("WEBP", {}),
            ("BMP", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
        ):
            stream = io.BytesIO()
            scan.save(stream, name, **options)
            contents.append(stream.getvalue())
    return contents


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage too
def test_flipped_and_cut_bytes_give_facts_or_a_reason_for_each_file(tmp_path, real_images):
    rng = random.Random(0)
    paths = []
    for number in range(3000):
        content = bytearray(rng.choice(real_images))
        for _ in range(rng.choice([0, 1, 1, 3, 20])):
            place = rng.randrange(len(content)) if rng.random() < 0.5 else rng.randrange(min(len(content), 200))
            content[place] ^= 1 << rng.randrange(8)
        if rng.random() < 0.4:
            del content[rng.randrange(len(content)) :]
        paths.append(f"{number}.img")
        (tmp_path / paths[-1]).write_bytes(content)
    inspections = inspected(tmp_path, paths)
    assert len(inspections) == len(paths)
    assert all(bool(inspection.reason) == (inspection.facts is None) for inspection in inspections)
    assert all("\n" not in inspection.detail for inspection in inspections)
    assert {"truncated", "unreadable"} <= {inspection.reason for inspection in inspections}
    for path, inspection in zip(paths, inspections, strict=True):
        if inspection.facts:  # later stages can decode every image that was accepted
            image = decode_sample((tmp_path / path).read_bytes())
            assert np.asarray(image).shape[2] == 3
