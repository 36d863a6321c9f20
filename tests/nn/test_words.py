"""Word representations: each word as if encoded alone, independent of the batch."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gatewise.config import ModelConfig
from gatewise.nn.words import CharacterEncoder, EncodedSentences, WordBatch, WordEncoder
from gatewise.runtime.lexicon import Lexicon
from tests.tolerances import RELATIVE, differ

SENTENCES = [
    ["The", "dog", "ate", "the", "apple"],
    [],
    ["New York", "the", "the"],
    ["x"],
    ["Unbelievably", "dog", "The", "x", "'s", "the", "dog"],
]
WORDS = Lexicon.from_tokens(["the", "the", "dog", "ate", "New York"])
LETTERS = Lexicon.from_tokens("Thedogateappl NewYork")


def make(kind: str = "lstm", **options: object) -> WordEncoder:
    torch.manual_seed(3)
    config = ModelConfig(
        **{"embedding_size": 4, "character_embedding_size": 3, "character_hidden_size": 5, **options},
        character_encoder=kind,
    )
    return WordEncoder(config, WORDS, LETTERS).double()


def batch_of(sentences: Sequence[Sequence[str]]) -> WordBatch:
    return EncodedSentences(sentences, WORDS, LETTERS).batch(range(len(sentences)))


def test_a_batch_holds_each_words_ids_and_spelling() -> None:
    batch = EncodedSentences(SENTENCES, WORDS, LETTERS).batch([4, 1, 0])
    assert batch.lengths.tolist() == [7, 0, 5]
    assert batch.words.shape == batch.forms.shape == (7, 3)
    for column, row in enumerate([4, 1, 0]):
        words = SENTENCES[row]
        assert batch.words[: len(words), column].tolist() == WORDS.encode(words)
        assert not batch.words[len(words) :, column].any()
        for t, word in enumerate(words):
            form = int(batch.forms[t, column])
            assert int(batch.spelling_lengths[form]) == len(word)
            assert batch.spellings[: len(word), form].tolist() == LETTERS.encode(word)
    assert batch.spellings.shape == (
        len("Unbelievably"),
        len({*SENTENCES[4], *SENTENCES[0]}),
    )  # each distinct word once


@pytest.mark.parametrize("kind", ["lstm", "cnn"])
def test_each_word_is_read_as_if_alone(kind: str) -> None:
    """Values, and the gradients of every parameter, which add up over the words."""
    encoder, batch = make(kind), batch_of(SENTENCES)
    weights = torch.randn(7, 5, encoder.word_size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = encoder.encode(batch)
    inside = (torch.arange(7)[:, None] < batch.lengths)[..., None]
    (together * weights * inside).sum().backward()
    gradients = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    for column, sentence in enumerate(SENTENCES):
        for t, word in enumerate(sentence):
            alone = encoder.encode(batch_of([[word]]))[0, 0]
            assert differ(together[t, column], alone) < RELATIVE[torch.float64], word
            (alone * weights[t, column]).sum().backward()
    assert set(gradients) == {name for name, _ in encoder.named_parameters()}
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None
        assert differ(gradients[name], parameter.grad) < RELATIVE[torch.float64], name


def test_the_character_lstm_reads_each_word_from_both_ends() -> None:
    encoder = CharacterEncoder("lstm", len(LETTERS), 3, 5).double()
    peer = torch.nn.LSTM(3, 5, bidirectional=True).double()
    peer.load_state_dict(encoder.rnn.state_dict())
    for word in ("dog", "x", "New York"):
        ids = torch.tensor(LETTERS.encode(word))[:, None]
        y, _ = peer(encoder.embedding(ids))
        expected = torch.cat([y[-1, :, :5], y[0, :, 5:]], 1)
        assert differ(encoder(ids, torch.tensor([len(word)])), expected) < RELATIVE[torch.float64]


def test_the_convolution_keeps_its_largest_answers() -> None:
    encoder = CharacterEncoder("cnn", len(LETTERS), 3, 5).double()
    weight, bias = encoder.convolution.weight, encoder.convolution.bias
    for word in ("dog", "x", "New York"):
        x: Tensor = F.pad(encoder.embedding(torch.tensor(LETTERS.encode(word))), (0, 0, 1, 1))
        answers = [bias + sum(weight[:, :, k] @ x[s + k] for k in range(3)) for s in range(len(word))]
        found = encoder(torch.tensor(LETTERS.encode(word))[:, None], torch.tensor([len(word)]))
        assert differ(found[0], torch.stack(answers).amax(0)) < RELATIVE[torch.float64]


@pytest.mark.parametrize("kind", ["lstm", "cnn"])
def test_words_without_characters_are_zeros(kind: str) -> None:
    encoder = make(kind)
    size = encoder.config.embedding_size
    beside = encoder.encode(batch_of([["dog", ""]]))
    assert not beside[1, 0, size:].any() and beside[0, 0, size:].any()
    assert not encoder.encode(batch_of([[""]]))[0, 0, size:].any()
    assert encoder.encode(batch_of([[], []])).shape == (0, 2, encoder.word_size)


def test_without_characters_there_is_the_embedding_alone() -> None:
    encoder, batch = make("none"), batch_of(SENTENCES)
    assert torch.equal(encoder.encode(batch), encoder.embedding.weight[batch.words])
    assert [name for name, _ in encoder.named_parameters()] == ["embedding.weight"]


def test_word_dropout_drops_ids_but_no_spelling_and_in_training_alone() -> None:
    encoder, sentence = make("lstm", word_dropout=0.3), ["dog", "the", "ate"] * 1000
    batch = batch_of([sentence])
    with torch.no_grad():
        plain, unknown = encoder.eval().encode(batch), encoder.embedding.weight[WORDS.unk_id]
        torch.manual_seed(5)
        dropped = encoder.train().encode(batch)
    is_unknown = (dropped[:, 0, :4] == unknown).all(1)
    assert float(is_unknown.double().mean()) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(dropped[~is_unknown], plain[~is_unknown])
    assert torch.equal(dropped[..., 4:], plain[..., 4:])
    assert not (plain[:, 0, :4] == unknown).all(1).any()
