"""Text encoders with random weights, cut between their layers: both parts together are the whole encoder."""

import pytest
import torch

from tasks.embedding.layers import FrozenLayers, TrainedLayers, find_layers
from tasks.text.packed import PAGE, Packed, num_pages, to_pages
from tests.tasks.models.test_encoder import KINDS, TEXTS, encoder

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")

CUT = sorted({*KINDS} - {"albert"})


def packed(made, texts=TEXTS):
    return Packed.of_ids([made.transform.prepare(text) for text in texts])


def frozen_states(made, boundary, texts):
    """Return what a pass gives that holds all texts, or one each where the kind is not packable."""
    frozen = FrozenLayers(made, boundary)
    passes = [texts] if made.is_packable else texts.split(1)
    return Packed(
        values=torch.cat([part for one in passes for part in frozen(one.values, one.windows)]), lengths=texts.lengths
    )


@pytest.mark.parametrize("boundary", [0, 1, 2])
@pytest.mark.parametrize("kind", CUT)
def test_both_parts_give_the_bits_of_the_whole_encoder(kind, boundary):
    """Also positions: RoBERTa counts them behind the padding, ModernBERT rotates by them, DeBERTa compares them."""
    made = encoder(kind)
    texts = packed(made)
    with torch.no_grad():
        whole = TrainedLayers(made, None)(texts)
        assert torch.equal(whole, made(texts.values, texts.windows))
        assert torch.equal(TrainedLayers(made, boundary)(frozen_states(made, boundary, texts)), whole)


@pytest.mark.parametrize("kind", CUT)
def test_trained_layers_are_those_of_the_encoder_and_frozen_ones_get_no_gradient(kind):
    made = encoder(kind)
    texts = packed(made)
    with torch.no_grad():
        states = frozen_states(made, 1, texts)
    trained = TrainedLayers(made, 1)
    [first, last] = find_layers(made).blocks()
    trained(states).square().sum().backward()
    whole = encoder(kind)
    whole(texts.values, texts.windows).square().sum().backward()
    expected = dict(whole.named_parameters())
    for name, parameter in made.named_parameters():
        if any(parameter is own for own in last.parameters()):
            torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-6, rtol=1e-4)
    assert all(parameter.grad is None for parameter in first.parameters())
    assert any(parameter.grad.abs().max() > 0 for parameter in last.parameters() if parameter.grad is not None)


def test_normalisation_behind_the_layers_belongs_to_the_last_block():
    made = encoder("modernbert")
    [_, last] = find_layers(made).blocks()
    assert any(part is made.network.final_norm for part in last)


def test_encoder_that_runs_one_layer_many_times_has_no_layers_to_cut_between():
    assert find_layers(encoder("albert")) is None


def test_pages_hold_every_token_and_lose_their_filling():
    lengths = [(5,), (PAGE,), (PAGE + 1, 3), (2 * PAGE,)]
    tokens = torch.randn(sum(map(sum, lengths)), 4)
    parts = torch.split(tokens, [*map(sum, lengths)])
    pages = torch.cat([to_pages(part) for part in parts])
    assert [len(to_pages(part)) for part in parts] == [num_pages(each) for each in lengths] == [1, 1, 2, 2]
    assert torch.equal(Packed.of_pages(pages, lengths).values, tokens)


def test_texts_are_split_by_number_with_all_of_their_windows():
    texts = Packed(values=torch.arange(10), lengths=[(2, 3), (1,), (4,)])
    first, second = texts.split(2)
    assert first.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert first.lengths == [(2, 3), (1,)]
    assert second.values.tolist() == [6, 7, 8, 9]
