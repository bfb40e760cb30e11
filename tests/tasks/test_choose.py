"""Backbones are ranked on digits before any training, and the vectors of the one that is chosen are kept."""

from dataclasses import replace

import pytest

from tasks.choose import changed
from tasks.stage.params import load_params
from tests.kit.chain import ROOT, Chain, logged
from tests.tasks.test_chain_of_targets import write_digits

NUM_SAMPLES = 100
CANDIDATES = [
    {"features": "penultimate"},
    {"weights": "random", "features": ["stage2"]},
    {"weights": "backbones/gone.safetensors"},
    {"features": ["stage2", "stage3", "stage4", "conv5"]},
    {"decode": "full"},  # digits are no JPEG
]


@pytest.fixture(scope="module")
def lines():
    """What the verbs of this module logged."""
    with logged() as kept:
        yield kept


@pytest.fixture(scope="module")
def chain(tmp_path_factory, great_expectations, lines):
    params = load_params(ROOT / "params.yaml")
    made = Chain(
        tmp_path_factory.mktemp("choose"),
        validate_=replace(
            params.validate_, targets={"label": "classes", "value": {"kind": "number"}}, min_samples_per_class=5
        ),
        choose=replace(params.choose, candidates=CANDIDATES, max_samples=NUM_SAMPLES),
    )
    write_digits(made.data / "raw/first")
    made.do("scan", "validate", "choose")
    return made


def test_every_backbone_that_is_here_is_ranked_with_its_scores_and_costs(chain):
    choice = chain.json("choice/choice.json")
    assert {one["number"] for one in choice["candidates"]} == {0, 1, 2}
    probes = [one["scores"]["probe"] for one in choice["candidates"]]
    assert probes == sorted(probes, reverse=True)
    assert choice["candidates"][-1]["number"] == 2  # random
    for one in choice["candidates"]:
        assert all(one["cost"].values())
        assert one["scores"]["h_score"] is not None
    assert choice["num_samples"] <= NUM_SAMPLES


def test_missing_weights_and_a_backbone_that_is_listed_twice_are_left_out_with_the_reason(chain, lines):
    reasons = [one["reason"] for one in chain.json("choice/choice.json")["left_out"]]
    assert "backbones/gone.safetensors is missing" in reasons[0]
    assert reasons[1:] == ["it gives the same vectors as the section backbone itself"] * 2
    assert any("is left out" in line and "gone.safetensors" in line for line in lines)
    assert "gone.safetensors is missing" in (chain.data / "choice/choice.html").read_text("utf-8")


def test_recommendation_is_said_with_how_to_take_it(chain, lines):
    advised = chain.json("choice/choice.json")["recommended"]
    [line] = [line for line in lines if line.startswith("recommended: ")]
    assert advised["why"] in line
    assert ("--accept" in line) == (advised["number"] != 0)


def test_vectors_of_the_chosen_backbone_are_not_computed_again(chain, lines):
    chain.do("backbone", "embed")
    [line] = [line for line in lines if line.startswith("embedded ")]
    new, total = (int(word.replace(",", "")) for word in (line.split()[1], line.split()[3]))
    assert new == total - chain.json("choice/choice.json")["num_samples"]


def test_backbones_are_compared_without_int8_whose_file_is_of_one_of_them(chain):
    before, params = chain.json("choice/choice.json"), chain.params
    place = f"backbones/int8.onnx@sha256:{64 * '0'}"
    chain.params = replace(params, embed=replace(params.embed, precision="int8", quantised=place))
    chain.do("choose")
    chain.params = params
    names = [{one["name"] for one in facts["candidates"]} for facts in (before, chain.json("choice/choice.json"))]
    assert names[0] == names[1]


def test_one_backbone_is_no_choice(chain):
    chain.params = replace(chain.params, choose=replace(chain.params.choose, candidates=CANDIDATES[2:]))
    with pytest.raises(ValueError, match=r"^1 backbone to choose from, expected at least two: .* \(left out: "):
        chain.do("choose")
    assert (chain.data / "choice/choice.json").is_file()  # of the ranking before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": "random"}, "number 3 has 'weight', expected keys of the section backbone: "),
        ({"image_size": 2}, "number 3: image_size is 2, expected"),
        ({"decode": "quick"}, "number 3: decode is quick, expected 'scaled' or 'full'"),
    ],
)
def test_wrong_candidate_is_refused_with_its_number(changes, words):
    backbone = load_params(ROOT / "params.yaml").backbone
    with pytest.raises(ValueError, match=words):
        changed(backbone, changes, 3)
