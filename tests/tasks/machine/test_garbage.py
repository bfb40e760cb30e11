import gc
import sys
from importlib.util import find_spec

import pytest

from tasks.machine.garbage import USUAL, rarely_collected
from tests.kit.programs import run


def test_collector_is_as_before_after_imports_even_if_one_fails():
    with rarely_collected():
        assert gc.get_threshold()[0] > USUAL[0]
    assert gc.get_threshold() == USUAL
    with pytest.raises(ImportError), rarely_collected():
        import there_is_no_such_module  # noqa: F401
    assert gc.get_threshold() == USUAL


@pytest.mark.skipif(find_spec("triton") is None, reason="torch came without its compiler for GPUs")
def test_process_that_loaded_the_compiler_ends_without_a_word():
    code = "from tasks.machine.garbage import never_collect_at_exit as skip; skip(); import triton"
    done = run(sys.executable, "-W", "ignore", "-c", code)
    assert (done.stdout, done.stderr) == ("", "")
