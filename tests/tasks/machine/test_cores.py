import threading

import pytest
import torch

from tasks.machine.cores import AHEAD, one_thread_each, spread


def test_results_come_in_the_order_of_the_sources():
    last_is_done = threading.Event()

    def work(source):
        if source == 1:
            last_is_done.set()
        elif source == 0:
            last_is_done.wait(timeout=10)  # the first ends after the second
        return source * 10

    assert list(spread([0, 1], work)) == [0, 10]


def test_every_source_is_worked_on_when_there_are_more_than_are_read_ahead():
    count = 3 * AHEAD + 1
    assert list(spread(range(count), lambda source: -source)) == [-source for source in range(count)]


def test_error_of_a_worker_is_raised_in_its_turn():
    def work(source):
        if source == 2:
            raise ValueError("sample 2 is missing")
        return source

    results = spread(range(10), work)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="sample 2 is missing"):
        next(results)


def test_number_of_threads_is_given_back():
    before = torch.get_num_threads()
    with one_thread_each():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
