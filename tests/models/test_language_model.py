"""The language model: its results, its initialization, and its state."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import gatewise as gw
from gatewise.config import ModelConfig
from gatewise.engines import ENGINES, why_not
from gatewise.engines.native.module import why_not_built
from gatewise.engines.native.stream import Stream
from gatewise.errors import UsageError
from gatewise.models import language_model
from gatewise.models.language_model import LanguageModel
from gatewise.nn.dropout import dropout
from gatewise.runtime import batches as batching
from gatewise.runtime.vocabulary import EOS, UNK, Vocabulary
from gatewise.spec import CELLS
from tests.tolerances import RELATIVE, differ

WORDS = Vocabulary(["the", EOS, "dog", "ate", "apple", UNK, "a"])


def make(seed: int = 1, **options: object) -> LanguageModel:
    config = ModelConfig(**{"hidden_size": 6, "num_layers": 2, "init_scale": 0.5, **options})
    return LanguageModel(config, WORDS, torch.Generator().manual_seed(seed))


def ids(T: int, B: int, seed: int = 3) -> torch.Tensor:
    return torch.randint(len(WORDS), (T, B), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("cut", [1, 4, 8])
def test_windows_with_carried_state_equal_the_whole(cell: str, cut: int) -> None:
    model, x = make(cell=cell), ids(9, 3)
    whole, last = model(x, model.initial_state(3))
    first, state = model(x[:cut], model.initial_state(3))
    second, state = model(x[cut:], state)
    assert differ(torch.cat([first, second]), whole) < RELATIVE[torch.float32]
    for a, b in zip(state, last, strict=True):
        assert differ(a, b) < RELATIVE[torch.float32]


@pytest.mark.parametrize("engine", sorted(set(ENGINES) - {"reference"}))
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_every_engine_gives_the_references_logits_cost_and_gradients(engine: str, cell: str) -> None:
    x, y = ids(6, 3), ids(6, 3, seed=8)
    results = []
    for name in (engine, "reference"):
        config = ModelConfig(hidden_size=6, num_layers=2, init_scale=0.5, cell=cell, dropout=0.3)
        model = LanguageModel(config, WORDS, torch.Generator().manual_seed(1), engine=name).double().train()
        assert model.rnn.engine == name
        torch.manual_seed(4)
        logits, state = model(x, model.initial_state(3))
        torch.manual_seed(4)
        cost, _ = model(x, model.initial_state(3), y)
        cost.backward()
        gradients = {f"d{n}": p.grad for n, p in model.named_parameters()}
        results.append({"logits": logits, "h_n": state.h, "cost": cost, **gradients})
    for name, expected in results[1].items():
        assert differ(results[0][name], expected) < RELATIVE[torch.float64], name


def test_step_by_step_equals_the_whole_and_changes_no_state_in_place() -> None:
    model, x = make(), ids(5, 2)
    whole, _ = model(x, model.initial_state(2))
    start = state = model.initial_state(2)
    for t in range(5):
        logits, state = model.step(x[t], state)
        assert logits.shape == (2, len(WORDS))
        assert differ(logits, whole[t]) < RELATIVE[torch.float32]
    assert all(not part.any() for part in start)


def test_the_cost_is_the_sum_over_time_of_the_mean_over_the_rows() -> None:
    model, x, y = make(), ids(4, 3), ids(4, 3, seed=8)
    logits, _ = model(x, model.initial_state(3))
    nll, _ = model(x, model.initial_state(3), y)
    expected = F.cross_entropy(logits.flatten(0, 1), y.flatten()) * 4
    assert differ(nll.detach(), expected.detach()) < RELATIVE[torch.float32]


def test_initial_weights_are_uniform_and_recurrent_biases_zero() -> None:
    model = LanguageModel(ModelConfig(hidden_size=64, init_scale=0.05), WORDS, torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if name.startswith("rnn.bias"):
            assert not parameter.any(), name
            continue
        assert parameter.abs().max() <= 0.05, name
        if parameter.numel() > 400:  # a uniform variable has the deviation scale / sqrt 3
            assert float(parameter.detach().std()) == pytest.approx(0.05 / math.sqrt(3), rel=0.1), name
            assert abs(float(parameter.detach().mean())) < 0.005, name
    assert model.decoder.bias.any()


def test_forget_bias_is_in_the_forget_gate_alone() -> None:
    model = make(forget_bias=1.5)
    for layer in range(2):
        i, f, g, o = getattr(model.rnn, f"bias_ih_l{layer}").detach().chunk(4)
        assert torch.equal(f, torch.full((6,), 1.5))
        assert not torch.cat([i, g, o]).any()
        assert not getattr(model.rnn, f"bias_hh_l{layer}").any()


def test_names_and_shapes_are_the_contracts() -> None:
    shapes = {name: tuple(t.shape) for name, t in make(embedding_size=5, num_layers=1).state_dict().items()}
    V, E, H = len(WORDS), 5, 6
    assert shapes == {
        "embedding.weight": (V, E),
        "rnn.weight_ih_l0": (4 * H, E),
        "rnn.weight_hh_l0": (4 * H, H),
        "rnn.bias_ih_l0": (4 * H,),
        "rnn.bias_hh_l0": (4 * H,),
        "decoder.weight": (V, H),
        "decoder.bias": (V,),
    }


def test_tied_weights_are_one_matrix_that_gets_both_gradients() -> None:
    tied, loose, x, y = make(tie_weights=True), make(), ids(4, 2), ids(4, 2, seed=5)
    assert tied.decoder.weight is tied.embedding.weight
    loose.load_state_dict(tied.state_dict())
    for model in (tied, loose):
        model(x, model.initial_state(2), y)[0].backward()
    both = loose.embedding.weight.grad + loose.decoder.weight.grad  # type: ignore[operator]
    assert differ(tied.embedding.weight.grad, both) < RELATIVE[torch.float32]


def test_dropout_acts_on_embedding_between_layers_and_output_but_never_along_time() -> None:
    """The same masks, drawn by hand in the same order, around two single layers that have no dropout."""
    model, x = make(dropout=0.5, hidden_size=6).train(), ids(7, 2)
    torch.manual_seed(7)
    found, (h_n, _) = model.features(x, model.initial_state(2))
    layers = []
    for k in range(2):
        layer = torch.nn.LSTM(6, 6)
        layer.load_state_dict(
            {name: getattr(model.rnn, name.replace("l0", f"l{k}")).detach() for name in layer.state_dict()}
        )
        layers.append(layer)
    torch.manual_seed(7)
    y = dropout(model.embedding(x), 0.5)
    y, _ = layers[0](y)
    y, (last, _) = layers[1](dropout(y, 0.5))
    assert differ(dropout(y, 0.5), found) < RELATIVE[torch.float32]
    assert differ(h_n[1], last[0]) < RELATIVE[torch.float32]  # the state that goes on is whole
    assert (found == 0).any()
    assert not (model.eval().features(x, model.initial_state(2))[0] == 0).any()


def test_scoring_does_not_depend_on_the_window_and_skips_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = make(dropout=0.5), ids(23, 1)[:, 0]
    model.train()
    whole = model.score(tokens.numpy())
    assert model.training  # as it was
    monkeypatch.setattr(language_model, "SCORE_WINDOW", 4)
    pieces = model.score(tokens.numpy())
    assert whole[1] == pieces[1] == 22
    assert pieces[0] == pytest.approx(whole[0], rel=1e-6)
    model.eval()
    logits, _ = model(tokens[:-1, None], model.initial_state())
    assert whole[0] == pytest.approx(
        float(F.cross_entropy(logits[:, 0], tokens[1:], reduction="sum").detach()), rel=1e-5
    )


def test_perplexity_reads_each_text_after_eos_and_closes_it() -> None:
    model = make()
    one = model.score([1, 0, 2, 3, 1])
    two = model.score([1, 6, 5, 1])  # zebra reads as <unk>
    expected = math.exp((one[0] + two[0]) / (4 + 3))
    assert model.perplexity(["the dog ate", "a zebra"]) == pytest.approx(expected, rel=1e-6)
    assert one[1] == 4
    with pytest.raises(UsageError, match="list of texts"):
        model.perplexity("the dog")
    with pytest.raises(UsageError, match="no texts"):
        model.perplexity([])


def test_generation_is_seeded_greedy_at_zero_and_keeps_the_prompt() -> None:
    model = make()
    assert model.generate("the dog", seed=4) == model.generate("the dog", seed=4)
    assert len({model.generate(seed=s, max_tokens=20) for s in range(5)}) > 1
    greedy = model.generate("the dog", temperature=0, max_tokens=6, seed=1)
    assert greedy == model.generate("the dog", temperature=0, max_tokens=6, seed=2)
    assert greedy.startswith("the dog")
    state, tokens, drawn = model.initial_state(), [1, 0, 2], []
    for _ in range(6):  # the same by hand: the whole text read anew for each word
        logits, _ = model(torch.tensor([*tokens, *drawn])[:, None], state)
        drawn.append(int(logits[-1, 0].argmax()))
    assert greedy.split() == ["the", "dog", *WORDS.decode(drawn).split()]


def test_the_next_tokens_are_those_of_the_softmax(tiny_run: Path) -> None:
    model = gw.load(tiny_run)
    every = model.next_tokens("the company", len(model.vocabulary))
    assert sum(p for _, p in every) == pytest.approx(1) and [p for _, p in every] == sorted((p for _, p in every))[::-1]
    assert every[:3] == model.next_tokens("the company", 3)
    assert model.generate("the company", max_tokens=1, temperature=0).split()[-1] in (every[0][0], "company")
    ids = torch.tensor([model.vocabulary.eos_id, *model.vocabulary.encode_text("the company")[:-1]])[:, None]
    with torch.no_grad():
        p = model(ids, model.initial_state())[0][-1, 0].double().softmax(0)
    assert dict(every) == pytest.approx(dict(zip(model.vocabulary.tokens, p.tolist(), strict=True)), rel=1e-5)
    with pytest.raises(UsageError, match="the number of next tokens is 0; expected 1 or more"):
        model.next_tokens("the company", 0)


def test_top_k_of_one_is_greedy_and_an_empty_prompt_is_an_error() -> None:
    model = make()
    assert model.generate("a", top_k=1, seed=1, max_tokens=9) == model.generate("a", temperature=0, max_tokens=9)
    with pytest.raises(UsageError, match="prompt is empty"):
        model.generate("  ")


def test_one_batch_can_be_overfitted() -> None:
    torch.manual_seed(0)
    model, x, y = make(hidden_size=32), ids(6, 4), ids(6, 4, seed=9)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        nll, _ = model(x, model.initial_state(4), y)
        nll.backward()
        optimizer.step()
    assert float(nll.detach()) / len(y) < 0.05


needs_native = pytest.mark.skipif(why_not_built() is not None, reason="the native engine was not built")


@needs_native
@pytest.mark.parametrize("options", [{"cell": c} for c in CELLS] + [{"one_hot": True}, {"tie_weights": True}])
def test_a_stream_steps_as_the_model_does(options: dict[str, object]) -> None:
    model, x = make(dropout=0.5, **options).train(), ids(5, 3)
    stream, state = model.stream(), model.initial_state(3)
    model.eval()
    for t in range(5):
        (logits, after), (expected, state) = stream.step(x[t], state), model.step(x[t], state)
        assert type(after) is type(state)
        for a, b in zip([logits, *after], [expected, *state], strict=True):
            assert differ(a, b) < RELATIVE[torch.float32]
            assert not a.requires_grad
    assert torch.equal(model.step(x[0], after)[0].argmax(-1), stream.step(x[0], state)[0].argmax(-1))


@needs_native
def test_a_stream_in_bf16_is_the_model_with_its_weights_rounded() -> None:
    model, x, state = make(), ids(1, 3)[0], make().initial_state(3)
    logits, _ = model.stream("bf16").step(x, state)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(p.bfloat16() if "weight" in name else p)
    assert differ(logits, model.step(x, state)[0]) < RELATIVE[torch.float32]


@needs_native
@pytest.mark.parametrize("options", [{}, {"one_hot": True}, {"tie_weights": True}])
def test_a_stream_in_int8_is_the_model_with_each_row_of_its_weights_rounded(options: dict[str, object]) -> None:
    model, x, state = make(**options), ids(1, 3)[0], make().initial_state(3)
    logits, _ = model.stream("int8").step(x, state)
    before = model.step(x, state)[0]
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "weight" in name:
                rows = p.t() if options.get("one_hot") and name == "rnn.weight_ih_l0" else p
                scale = rows.abs().amax(1, keepdim=True) / 127
                rows.copy_((rows / scale).round() * scale)
    assert differ(logits, model.step(x, state)[0]) < 1e-5
    assert differ(logits, before) > 1e-4, "not rounded at all"


@needs_native
@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_a_text_has_the_same_score_token_by_token(weights: str) -> None:
    model, text = make(), ids(40, 1)[:, 0].numpy()
    total, count = model.score(text)
    assert model.score_stepwise(text, model.stream(weights)) == pytest.approx(
        total, rel=1e-6 if weights == "fp32" else 0.01
    )
    assert model.score_stepwise(text[:1], model.stream(weights)) == 0
    assert count == 39


@needs_native
def test_a_stream_keeps_the_weights_it_was_made_with_and_step_reads_those_of_now() -> None:
    model, x, state = make().eval(), ids(1, 1)[0], make().initial_state()
    stream, before = model.stream(), model.step(x, state)[0]
    model.rnn.weight_hh_l0.data.add_(1.0)
    model.decoder.weight.data.mul_(-2.0)
    assert differ(stream.step(x, state)[0], before) < RELATIVE[torch.float32]
    assert differ(model.step(x, state)[0], before) > 0.01


@needs_native
def test_what_cannot_be_streamed_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"^this model cannot be streamed: the weights are float64; expected float32; use"
    ):
        make().double().stream()
    with pytest.raises(UsageError, match=r"^weights is 'fp16'; expected one of fp32, bf16, int8$"):
        make().stream("fp16")
    model = make()
    model.rnn.weight_hh_l0.data[0, 0] = math.nan
    with pytest.raises(
        UsageError, match=r"^this model cannot be streamed: weight_hh_l0 holds a number that is not fin"
    ):
        model.stream("int8")


@needs_native
@pytest.mark.parametrize(
    ("engine", "tokens", "streams"), [("auto", 40, 1), ("native", 40, 1), ("auto", 2, 0), ("torch", 40, 0)]
)
def test_text_is_drawn_from_a_stream_where_that_pays(
    engine: str, tokens: int, streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, made = make(), list[str]()
    plain = make()
    model.rnn.engine, plain.rnn.engine = engine, "torch"
    stream = LanguageModel.stream
    monkeypatch.setattr(LanguageModel, "stream", lambda *a: (made.append(""), stream(*a))[1])
    text = model.generate("the dog", max_tokens=tokens, seed=3)
    assert len(made) == streams
    assert text == plain.generate("the dog", max_tokens=tokens, seed=3)


@needs_native
def test_a_double_model_still_draws_text() -> None:
    assert make().double().generate("the", max_tokens=12, seed=1).startswith("the ")


@pytest.mark.parametrize("tokens", [1, 12])
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "reference" and why_not(name) is None])
def test_of_a_prompt_no_logits_are_made_but_the_last_ones(
    engine: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(hidden_size=6, num_layers=2, init_scale=0.5)
    model = LanguageModel(config, WORDS, torch.Generator().manual_seed(1), engine)
    prompt = " ".join(WORDS.tokens[k % 5] for k in range(30))
    rows: list[int] = []
    model.decoder.register_forward_pre_hook(lambda module, given: rows.append(given[0][..., 0].numel()))
    monkeypatch.setattr(Stream, "step", lambda *given: (rows.append(len(given[1])), stream_step(*given))[1])
    text = model.generate(prompt, max_tokens=tokens, temperature=0)
    assert rows == [1] * tokens
    monkeypatch.setattr(language_model, "SCORE_WINDOW", 7)  # a prompt is read in windows
    assert model.generate(prompt, max_tokens=tokens, temperature=0) == text


stream_step = Stream.step


def test_short_texts_are_scored_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass packs all weights; the figure is that of each text alone."""
    model, passes = make(dropout=0.5).train(), list[torch.Size]()
    monkeypatch.setattr(language_model, "SCORE_WINDOW", 100)
    monkeypatch.setattr(batching, "BATCH_ROWS", 20)
    monkeypatch.setattr(batching, "BATCH_WORDS", 200)
    hook = model.rnn.register_forward_hook(lambda module, given, out: passes.append(given[0].shape))
    texts = [" ".join(WORDS.tokens[k % 7] for k in range(n, n + 1 + n % 9)) for n in range(60)] + ["the dog " * 130]
    found = model.perplexity(texts)
    hook.remove()
    assert model.training
    assert len(passes) == 3 + 3  # of 20 texts each, and of one of 261 tokens in windows of 100
    scores = [model.score(row) for text in texts for row in WORDS.sequences(text)]
    expected = math.exp(sum(nll for nll, _ in scores) / sum(count for _, count in scores))
    assert found == pytest.approx(expected, rel=1e-6)
