import pytest

from tasks.embedding.part import check_recipe


def test_a_process_on_another_processor_is_refused():
    with pytest.raises(ValueError, match=r"its processor is avx2, expected avx512 .* vectors would differ: give"):
        check_recipe({"code": "1", "processor": "avx2"}, {"code": "1", "processor": "avx512"})
    check_recipe({"code": "1"}, {"code": "1"})
