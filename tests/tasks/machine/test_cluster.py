import runpy
import sys
from dataclasses import replace

import pytest

from tasks.machine.cluster import Named, Place, _Remote, blocks_of, on_each, spread_to_cluster
from tasks.machine.extras import PACKAGES, MissingExtraError
from tasks.machine.options import ScaleOptions


def test_blocks_keep_the_order_and_every_item():
    assert list(blocks_of(["a", "b", "c"], 2)) == [["a", "b"], ["c"]]
    assert list(blocks_of([], 2)) == []


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

    remote = _Remote(work=len, place=replace(Place.here(), folder=tmp_path / "nowhere"))
    [failed] = remote(pa.table({"item": ["a"]}))["result"]
    assert "nowhere is not there (No such file or directory): give every node the folder" in failed.message


def test_a_node_where_results_would_differ_is_refused_by_name():
    place = Place.here()
    place.enter()
    with pytest.raises(ValueError, match=r"its package numpy is .*, expected 1\.0 as where the run was started"):
        replace(place, facts=place.facts | {"package numpy": "1.0"}).enter()


def test_a_single_item_needs_no_cluster():
    there = ScaleOptions(engine="ray", address="nowhere:1")
    assert list(on_each(["abc"], sorted, scale=there, reverse=True)) == [["c", "b", "a"]]


def test_a_function_of_a_verb_is_found_by_the_name_of_its_module(monkeypatch):
    """A verb that runs is the module `__main__`, which no other process can import."""
    monkeypatch.delitem(sys.modules, "tasks.machine.names")
    named = Named.of(runpy.run_module("tasks.machine.names", run_name="__main__")["listed"], {"joint": " and "})
    assert (named.module, named.function) == ("tasks.machine.names", "listed")
    assert named(["a", "b"]) == "a and b"
