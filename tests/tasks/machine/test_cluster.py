import pytest

from tasks.machine.cluster import _Remote, blocks_of, spread_to_cluster
from tasks.machine.extras import PACKAGES, MissingExtraError


def test_blocks_keep_the_order_and_every_item():
    assert blocks_of(["a", "b", "c"], 2) == [["a", "b"], ["c"]]
    assert blocks_of([], 2) == []


@pytest.mark.parametrize("address", ["ray://head:10001", "head", ":6379", "head:port"])
def test_an_address_of_another_form_is_refused_by_name(address):
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match=r"scale\.address is .* expected the HOST:PORT of the head of a Ray cluster"):
        next(spread_to_cluster([["a"]], len, address=address))


def test_a_missing_extra_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(PACKAGES, "ray", ("ray_that_nobody_installed",))
    with pytest.raises(MissingExtraError, match=r"run `make setup EXTRAS=ray`"):
        next(spread_to_cluster([["a"]], len, address=None))


def test_a_node_without_the_folder_says_so(tmp_path):
    pytest.importorskip("ray")
    import pyarrow as pa

    remote = _Remote(work=len, folder=tmp_path / "nowhere")
    [failed] = remote(pa.table({"item": ["a"]}))["result"]
    assert "nowhere is not there (No such file or directory): give every node the folder" in failed.message
