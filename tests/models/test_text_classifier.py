"""The text classifier: each text independent of its batch, over time, and input checks."""

import inspect

import pytest
import torch

from gatewise.config import ModelConfig
from gatewise.errors import UsageError
from gatewise.models.text_classifier import TextClassifier
from gatewise.runtime.lexicon import Lexicon

TEXTS = ["the dog ate", "everybody read that long long book", "no", "the dog ate that book"]


def make(**options: object) -> TextClassifier:
    torch.manual_seed(1)
    config = ModelConfig(
        **{
            "hidden_size": 5,
            "num_layers": 1,
            "init_scale": 0.0,
            "character_encoder": "cnn",
            "character_embedding_size": 4,
            "character_hidden_size": 3,
            "bidirectional": True,
            **options,
        }
    )
    words = Lexicon.from_tokens(["the", "dog", "ate", "that", "book", "read"])
    return TextClassifier(config, words, Lexicon.from_tokens("abcdeghklnortvy"), ["good", "bad"])


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_texts_side_by_side_are_read_as_each_alone(pooling: str, cell: str) -> None:
    model = make(pooling=pooling, cell=cell)
    together = model.predict_proba(TEXTS)
    assert torch.allclose(together.sum(1), torch.ones(4))
    for row, text in zip(together, TEXTS, strict=True):
        assert torch.allclose(model.predict_proba([text.split()])[0], row, atol=1e-6)
    assert model.predict(TEXTS) == [model.labels[k] for k in together.argmax(1).tolist()]


def test_over_time_each_row_reads_the_words_up_to_it() -> None:
    model = make(pooling="max")
    rows = model.predict_proba_over_time(TEXTS[1])
    assert rows.shape == (6, 2)
    for k in range(6):
        assert torch.allclose(rows[k], model.predict_proba([TEXTS[1].split()[: k + 1]])[0], atol=1e-6)


def test_characters_tell_words_apart_that_the_vocabulary_does_not_know() -> None:
    model = make()
    a, b = model.predict_proba(["the lynx", "the vole"])
    assert not torch.allclose(a, b)
    plain = make(character_encoder="none")
    a, b = plain.predict_proba(["the lynx", "the vole"])
    assert torch.allclose(a, b, rtol=0, atol=1e-7)  # the softmax of two rows of two rounds by where they lie


def test_what_is_no_list_of_texts_is_refused() -> None:
    with pytest.raises(UsageError, match="one string"):
        make().predict("the dog")
    with pytest.raises(UsageError, match="text 1 has no words"):
        make().predict(["the dog", "  "])
    assert make().predict_proba([]).shape == (0, 2)


@pytest.mark.parametrize(("text", "shown"), [(None, "missing"), (float("nan"), "missing"), (3, "an int")])
def test_a_text_that_is_none(text: object, shown: str) -> None:
    classify = inspect.unwrap(TextClassifier._each)  # without the tests' check of types
    with pytest.raises(UsageError, match=rf"text 1 is {shown}; expected a string or a list of words"):
        classify(make(), ["the dog", text], lambda words: [words])
