import gc

import pytest

from tasks.machine.garbage import USUAL, rarely_collected


def test_collector_is_as_before_after_imports_even_if_one_fails():
    with rarely_collected():
        assert gc.get_threshold()[0] > USUAL[0]
    assert gc.get_threshold() == USUAL
    with pytest.raises(ImportError), rarely_collected():
        import there_is_no_such_module  # noqa: F401
    assert gc.get_threshold() == USUAL
