import pandas as pd
import pytest
from torchvision.transforms.v2.functional import pil_to_tensor

from tasks.data.samples.samples import Samples, minibatches, num_minibatches, sample_id


@pytest.fixture
def rows(batch):
    paths = sorted(batch.rglob("*.png"))
    return pd.DataFrame(
        {
            "batch": batch.name,
            "path": [str(path.relative_to(batch)) for path in paths],
            "sample_id": [sample_id(path.read_bytes()) for path in paths],
        }
    )


def read(rows, batch, size):
    return list(minibatches(Samples(rows, raw=batch.parent, shorter_side=None), pixels=pil_to_tensor, size=size))


def test_pictures_come_in_the_order_of_the_rows(rows, batch, picture):
    reverse = rows.iloc[::-1]
    found = [image for minibatch in read(reverse, batch, 4) for image in minibatch]
    assert all(each.equal(pil_to_tensor(picture(seed))) for each, seed in zip(found, range(5, -1, -1), strict=True))


@pytest.mark.parametrize(("size", "shapes"), [(4, [4, 2]), (3, [3, 3]), (10, [6])])
def test_last_minibatch_is_what_is_left(rows, batch, size, shapes):
    assert [len(each) for each in read(rows, batch, size)] == shapes
    assert num_minibatches(len(rows), size) == len(shapes)


def test_no_rows_are_no_minibatches(rows, batch):
    assert read(rows[:0], batch, 4) == []
    assert num_minibatches(0, 4) == 0


def test_picture_that_changed_since_it_was_validated_stops_the_reading(rows, batch, picture):
    picture(99).save(batch / rows["path"][4])
    with pytest.raises(ValueError, match=rf"{rows['path'][4]} changed after it was validated"):
        read(rows, batch, 2)
