"""The tagger: its results, its initialization, and edge cases of sentences."""

import math

import pytest
import torch
from torch.nn import functional as F

from gatewise.config import ModelConfig
from gatewise.engines import ENGINES
from gatewise.errors import UsageError
from gatewise.models.tagger import Tagger
from gatewise.nn.words import EncodedSentences, WordBatch
from gatewise.runtime import batches as batching
from gatewise.runtime.lexicon import Lexicon
from tests.tolerances import RELATIVE, differ

SENTENCES = [
    ["The", "dog", "ate", "the", "apple"],
    [],
    ["Everybody", "read", "that", "book"],
    ["New York", "the"],
    ["x"],
    ["the", "dog", "read", "that", "book", "the", "dog"],
]
TAGS = ["DET", "NN", "V"]
WORDS = Lexicon.from_tokens([word for sentence in SENTENCES for word in sentence], lowercase=True)
LETTERS = Lexicon.from_tokens(letter for sentence in SENTENCES for word in sentence for letter in word)
SMALL = {
    "embedding_size": 4,
    "hidden_size": 5,
    "num_layers": 2,
    "init_scale": 0.5,
    "character_encoder": "lstm",
    "character_embedding_size": 3,
    "character_hidden_size": 3,
}


def make(seed: int = 1, engine: str = "auto", **options: object) -> Tagger:
    config = ModelConfig(**{**SMALL, **options})
    return Tagger(config, WORDS, LETTERS, TAGS, torch.Generator().manual_seed(seed), engine)


def batch_of(rows: list[int]) -> tuple[WordBatch, torch.Tensor]:
    """Some of the sentences, and tags for them, −100 past each end."""
    batch = EncodedSentences(SENTENCES, WORDS, LETTERS).batch(rows)
    tags = torch.randint(len(TAGS), batch.words.shape, generator=torch.Generator().manual_seed(7))
    for column, length in enumerate(batch.lengths.tolist()):
        tags[length:, column] = -100
    return batch, tags


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_the_cost_is_the_mean_over_the_words(output: str, bidirectional: bool) -> None:
    model = make(output=output, bidirectional=bidirectional).double()
    (batch, tags), total, count = batch_of([5, 1, 0, 4]), 0.0, 0
    for column, row in enumerate([5, 1, 0, 4]):
        alone, _ = batch_of([row])
        scores, length = model.decoder(model.features(alone)), len(SENTENCES[row])
        own = tags[:length, column : column + 1]
        if output == "softmax":
            total += float(F.cross_entropy(scores[:, 0], own[:, 0], reduction="sum").detach())
        else:
            assert model.crf is not None
            total += float(model.crf.nll(scores, own, alone.lengths).sum().detach())
        count += length
    assert float(model(batch, tags).detach()) == pytest.approx(total / count, rel=1e-10)


@pytest.mark.parametrize("engine", sorted(set(ENGINES) - {"reference"}))
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_every_engine_gives_the_references_cost_and_gradients(engine: str, cell: str, output: str) -> None:
    batch, tags = batch_of([5, 1, 0, 4])
    results = []
    for name in (engine, "reference"):
        model = make(engine=name, cell=cell, output=output, bidirectional=True, dropout=0.3, word_dropout=0.2)
        assert model.characters is not None
        assert (model.rnn.engine, model.characters.rnn.engine) == (name, name)
        torch.manual_seed(4)
        cost = model.double().train()(batch, tags)
        cost.backward()
        results.append({"cost": cost, **{f"d{n}": p.grad for n, p in model.named_parameters()}})
    for name, expected in results[1].items():
        assert differ(results[0][name], expected) < RELATIVE[torch.float64], name


def test_names_and_shapes_are_the_contracts() -> None:
    shapes = {n: tuple(t.shape) for n, t in make(num_layers=1, bidirectional=True, output="crf").state_dict().items()}
    E, H, K, C = 4, 5, 3, len(TAGS)
    both = ("", "_reverse")
    assert shapes == {
        "embedding.weight": (len(WORDS), E),
        "characters.embedding.weight": (len(LETTERS), 3),
        **{f"characters.rnn.weight_ih_l0{d}": (4 * K, 3) for d in both},
        **{f"characters.rnn.weight_hh_l0{d}": (4 * K, K) for d in both},
        **{f"characters.rnn.bias_{w}_l0{d}": (4 * K,) for d in both for w in ("ih", "hh")},
        **{f"rnn.weight_ih_l0{d}": (4 * H, E + 2 * K) for d in both},
        **{f"rnn.weight_hh_l0{d}": (4 * H, H) for d in both},
        **{f"rnn.bias_{w}_l0{d}": (4 * H,) for d in both for w in ("ih", "hh")},
        "decoder.weight": (C, 2 * H),
        "decoder.bias": (C,),
        "crf.transitions": (C, C),
        "crf.start": (C,),
        "crf.end": (C,),
    }


def test_initial_weights_are_uniform_and_recurrent_biases_zero() -> None:
    model = make(hidden_size=64, init_scale=0.05, forget_bias=1.5, bidirectional=True, output="crf")
    for name, parameter in model.named_parameters():
        if name.startswith("rnn.bias_ih"):
            i, f, g, o = parameter.detach().chunk(4)
            assert torch.equal(f, torch.full((64,), 1.5)) and not torch.cat([i, g, o]).any(), name
        elif "rnn.bias" in name:
            assert not parameter.any(), name
        else:
            assert parameter.any() and parameter.abs().max() <= 0.05, name
    assert float(model.rnn.weight_hh_l0.detach().std()) == pytest.approx(0.05 / math.sqrt(3), rel=0.05)


def test_without_init_scale_each_module_draws_its_own() -> None:
    model = make(init_scale=0, hidden_size=16, forget_bias=2.0, output="crf")
    assert 0.9 / 4 < float(model.rnn.weight_hh_l0.detach().abs().max()) <= 1 / 4
    assert float(model.rnn.bias_ih_l0.detach().chunk(4)[1].mean()) == pytest.approx(2, abs=0.25)
    assert model.crf is not None and not model.crf.transitions.any()


def test_dropout_acts_in_training_alone() -> None:
    model, (batch, _) = make(dropout=0.5), batch_of([0, 2])
    assert torch.equal(model.eval().features(batch), model.features(batch))
    y = model.train().features(batch)
    assert not torch.equal(y, model.features(batch))
    assert 0.2 < float((y[:4] == 0).double().mean()) < 0.8  # of the last output too, where all rows have words


@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_tags_come_back_in_their_order_and_agree_with_each_sentence_alone(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(output=output, bidirectional=True, dropout=0.5, init_scale=1.0).train()
    together, p = model.tag(SENTENCES), model.tag_probabilities(SENTENCES)
    assert [len(tags) for tags in together] == [len(rows) for rows in p] == [len(words) for words in SENTENCES]
    assert model.training  # as it was
    assert len({tag for tags in together for tag in tags}) > 1
    monkeypatch.setattr(batching, "BATCH_ROWS", 2)
    assert model.tag(SENTENCES) == together
    for sentence, tags, rows in zip(SENTENCES, together, p, strict=True):
        assert model.tag([sentence]) == [tags]
        assert rows.shape == (len(sentence), len(TAGS)) and not rows.requires_grad
        if sentence:
            assert differ(model.tag_probabilities([sentence])[0], rows) < RELATIVE[torch.float32]
            assert differ(rows.sum(1), torch.ones(len(sentence))) < RELATIVE[torch.float32]
        if output == "softmax":
            assert [TAGS[index] for index in rows.argmax(1).tolist()] == tags


def test_a_crfs_tags_are_those_of_the_best_sentence() -> None:
    """Forbidding every step from a tag to another leaves one tag a sentence, where the words alone have several."""
    model = make(output="crf", bidirectional=True, init_scale=1.0)
    assert model.crf is not None
    with torch.no_grad():
        model.crf.transitions.zero_()
        model.decoder.bias -= model.decoder(model.features(batch_of([5])[0])).mean((0, 1))  # no tag is best throughout
        assert max(len(set(tags)) for tags in model.tag(SENTENCES)) > 1
        model.crf.transitions.fill_(-50).fill_diagonal_(0)
    for tags, p in zip(model.tag(SENTENCES), model.tag_probabilities(SENTENCES), strict=True):
        assert len(set(tags)) <= 1
        assert [TAGS[index] for index in p.argmax(1).tolist()] == tags


def test_no_sentences_and_sentences_without_words() -> None:
    model = make()
    assert model.tag([]) == [] and model.tag_probabilities([]) == []
    assert model.tag([[], []]) == [[], []]
    assert [tuple(p.shape) for p in model.tag_probabilities([[], []])] == [(0, 3), (0, 3)]


@pytest.mark.slow
def test_a_sentence_of_10_000_words() -> None:
    model = make(output="crf", bidirectional=True, num_layers=1)
    (tags, short), p = model.tag([["dog"] * 10_000, ["dog"]]), model.tag_probabilities([["dog"] * 10_000])[0]
    assert len(tags) == len(p) == 10_000 and len(short) == 1
    assert p.isfinite().all()


@pytest.mark.parametrize(
    ("sentences", "said"),
    [("The dog", "one string"), (["The dog ate the apple and went home"], "sentence 0 is a string, 'The dog ate")],
)
def test_a_string_is_no_list_of_words(sentences: object, said: str) -> None:
    for call in (make().tag, make().tag_probabilities):
        with pytest.raises(UsageError, match=said):
            call(sentences)  # type: ignore[operator]


def test_batches_are_of_like_length_and_leave_no_sentence_out() -> None:
    lengths = [5, 0, 9000, 3, 5, *[2] * 300]
    batches = list(batching.batches_by_length(lengths))
    assert sorted(row for rows in batches for row in rows) == [0, *range(2, 305)]
    for rows in batches:
        assert len(rows) <= 128 and (len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= 8192)


@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_one_batch_can_be_overfitted(output: str) -> None:
    model, (batch, tags) = make(output=output, bidirectional=True, num_layers=1), batch_of([0, 2, 3, 5])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        model(batch, tags).backward()
        optimizer.step()
    found = model.predict(batch)
    for column, length in enumerate(batch.lengths.tolist()):
        assert torch.equal(found[:length, column], tags[:length, column])
