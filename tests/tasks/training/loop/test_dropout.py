from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from tasks.training.loop.dropout import Dropout, chance_of, draw_by_part

ONES = torch.ones(40, 5, 100)


def drawn(part, *facts):
    with chance_of(*facts):
        return part(ONES)


def test_share_of_the_numbers_is_zero_and_the_others_make_up_for_it():
    found = drawn(Dropout(0.25), 0, 0, 0)
    assert found.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert found.mean() == pytest.approx(1, abs=0.02)


def test_branch_is_dropped_for_whole_samples():
    found = drawn(Dropout(0.5, of_rows=True), 0, 0, 0)
    assert all(len(sample.unique()) == 1 for sample in found)
    assert set(found.unique().tolist()) == {0.0, 2.0}


def test_part_draws_the_same_whatever_the_other_threads_draw():
    part = Dropout(0.5)
    expected = [drawn(part, 7, step, number) for step in range(2) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda facts: drawn(part, 7, *facts), [(s, n) for s in range(2) for n in range(4)]))
    assert all(map(torch.equal, found, expected))
    assert len({one.numpy().tobytes() for one in found}) == 8


def test_no_number_is_dropped_after_training_or_at_a_rate_of_0():
    assert torch.equal(drawn(Dropout(0.5).eval(), 0), ONES)
    assert torch.equal(drawn(Dropout(0.0), 0), ONES)
    assert not drawn(Dropout(1.0), 0).any()


def test_dropout_and_branches_of_a_network_are_replaced_and_what_has_no_rows_stays():
    network = nn.Sequential(nn.Dropout(0.2), StochasticDepth(0.3, "row"), StochasticDepth(0.3, "batch"))
    draw_by_part(network)
    assert [(type(part), part.p) for part in network] == [(Dropout, 0.2), (Dropout, 0.3), (StochasticDepth, 0.3)]
