"""Which domains are adapted to, and which samples the methods see."""

import numpy as np
import pandas as pd
import pytest

from tasks.training.alignment.selection import domains_to_adapt_to, even_draw, labelled_first
from tests.kit.domains import asked


def samples(**domains):
    """Return the domain of each sample and whether it has a label: name=(num_labelled, num_unlabelled)."""
    names, labels = [], []
    for name, (num_labelled, num_unlabelled) in domains.items():
        names += [name] * (num_labelled + num_unlabelled)
        labels += [True] * num_labelled + [False] * num_unlabelled
    return pd.Series(names), np.array(labels)


@pytest.mark.parametrize(
    ("domains", "wanted"),
    [
        ({"photo": (100, 10), "cartoon": (10, 90)}, ["cartoon"]),
        ({"photo": (100, 0), "sketch": (0, 20), "cartoon": (0, 50)}, ["cartoon", "sketch"]),
        ({"photo": (100, 0), "cartoon": (0, 19)}, []),  # too few
        ({"photo": (100, 0), "cartoon": (60, 40)}, []),  # most have a label
        ({"photo": (10, 90)}, []),  # there is no other domain
        ({"photo": (10, 90), "cartoon": (0, 90)}, []),  # nobody would be a source
    ],
)
def test_auto_takes_the_domains_most_of_whose_samples_have_no_label(domains, wanted):
    assert domains_to_adapt_to(*samples(**domains), asked(targets="auto")) == wanted


def test_named_domains_are_taken_whatever_their_labels_are():
    domain, is_labelled = samples(photo=(100, 0), sketch=(80, 1), cartoon=(0, 3))
    options = asked(targets=["sketch", "cartoon", "sketch"])
    assert domains_to_adapt_to(domain, is_labelled, options) == ["cartoon", "sketch"]


def draw_of(groups, *, most):
    ids = pd.Series([f"{number:08x}" for number in np.random.default_rng(0).permutation(len(groups))])
    return ids, even_draw(ids, [groups], most=most)


def test_draw_has_the_same_share_of_each_group_and_one_of_each_at_least():
    groups = pd.Series(["many"] * 1000 + ["some"] * 100 + ["rare"])
    _, drawn = draw_of(groups, most=112)
    counts = groups.iloc[drawn].value_counts().to_dict()
    assert counts == {"many": 101, "some": 10, "rare": 1}
    assert (np.diff(drawn) > 0).all()


def test_draw_does_not_depend_on_the_order_of_the_rows():
    groups = pd.Series(["many"] * 300 + ["some"] * 30)
    ids, drawn = draw_of(groups, most=40)
    order = np.random.default_rng(1).permutation(len(ids))
    again = even_draw(ids.iloc[order].reset_index(drop=True), [groups.iloc[order].reset_index(drop=True)], most=40)
    assert set(ids.iloc[order].iloc[again]) == set(ids.iloc[drawn])


def test_few_samples_are_all_taken():
    _, drawn = draw_of(pd.Series(["one", "other", None]), most=10)
    assert drawn.tolist() == [0, 1, 2]


def test_labels_of_a_domain_are_taken_before_its_other_samples():
    ids = pd.Series([f"{number:02x}" for number in range(20)])
    is_labelled = np.arange(20) >= 15
    assert labelled_first(ids, is_labelled, most=7).tolist() == [0, 1, 15, 16, 17, 18, 19]
