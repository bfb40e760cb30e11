import pandas as pd
import pytest

from tasks.data.samples.samples import Samples, sample_id
from tasks.images.decode import decode_sample


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


def test_samples_come_in_the_order_of_the_rows(rows, batch, picture):
    samples = Samples(rows.iloc[::-1], raw=batch.parent, decode=decode_sample)
    assert len(samples) == 6
    for position, seed in enumerate(range(5, -1, -1)):
        assert samples.decoded(position).tobytes() == picture(seed).tobytes()
        assert sample_id(samples.content(position)) == samples.ids[position]


def test_sample_that_changed_after_validation_is_refused(rows, batch, picture):
    picture(99).save(batch / rows["path"][4])
    samples = Samples(rows, raw=batch.parent, decode=decode_sample)
    for read in (samples.content, samples.decoded):
        with pytest.raises(ValueError, match=rf"{rows['path'][4]} changed after it was validated"):
            read(4)
