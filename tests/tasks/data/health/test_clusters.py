import pandas as pd
import pytest

from tasks.data.health.clusters import clusters
from tasks.data.health.leaks import COLUMNS, LEAKED
from tasks.data.manifest.tables import write_text_table


@pytest.fixture
def found(tmp_path):
    """The clusters of held-out samples with these groups and twins."""

    def find(groups, twins):
        rows = pd.DataFrame({"sample_id": list("abcd"), "group": pd.Series(groups, dtype="str")})
        table = pd.DataFrame(
            [{"sample_id": name, "twin_sample_id": twin} for name, twin in twins.items()], columns=COLUMNS
        )
        write_text_table(tmp_path / LEAKED, table)
        return clusters(rows, tmp_path)

    return find


def test_samples_of_one_group_are_one_cluster(found):
    assert found(["p1", "p1", None, None], {}).tolist() == ["p1", "p1", "c", "d"]


def test_samples_with_the_same_twin_in_train_are_one_cluster(found):
    assert found([None] * 4, {"b": "t", "d": "t"}).tolist() == ["a", "t", "c", "t"]


def test_samples_that_are_each_alone_have_no_clusters(found):
    assert found([None, None, "p1", None], {"b": "t"}) is None
