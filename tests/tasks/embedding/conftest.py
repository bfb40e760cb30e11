"""The tests of engines draw random weights, again and again."""

from collections.abc import Iterator

import pytest

from tests.kit.random_numbers import few_random_numbers


@pytest.fixture(scope="module", autouse=True)
def random_weights() -> Iterator[None]:
    with few_random_numbers():
        yield
