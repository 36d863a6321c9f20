"""The built-in recipes: each parses, and those of the Penn Treebank hold the paper's table."""

import pytest

from gatewise.config import load_config, recipe_names, recipe_text

# name: init_scale, learning_rate, max_grad_norm, num_layers, tbptt_length, hidden_size, lr_decay_after_epoch, epochs,
# dropout, lr_decay, by Zaremba, Sutskever and Vinyals 2014 and the code that goes with it
PTB = {
    "ptb-small": (0.1, 1, 5, 2, 20, 200, 4, 13, 0, 0.5),
    "ptb-medium": (0.05, 1, 5, 2, 35, 650, 6, 39, 0.5, 0.8),
    "ptb-large": (0.04, 1, 10, 2, 35, 1500, 14, 55, 0.65, 1 / 1.15),
    "ptb-test": (0.1, 1, 1, 1, 2, 2, 1, 1, 0, 0.5),
}

TASKS = {
    "comments-scratch": "scratch-language-model",
    "tagging-toy": "tagger",
    "ewt-upos": "tagger",
    "mnist-rows": "classifier",
    "digits-rows": "classifier",
    "ewt-genre": "text-classifier",
    "sunspots": "regressor",
    "memory-task": "memory-task",
    "text-classifier": "text-classifier",
    "tagger": "tagger",
    "sequence-classifier": "classifier",
    "image-classifier": "classifier",
    "forecaster": "regressor",
}


def test_names() -> None:
    assert recipe_names() == sorted(recipe_names())
    assert {"demo", *PTB} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_parses(name: str) -> None:
    config = load_config(name)
    assert config.task.name == TASKS.get(name, "language-model")
    assert config.unread() is None, "a recipe sets no key that its task does not read"
    assert recipe_text(name).startswith("# "), "the first line says what the recipe is for"


@pytest.mark.parametrize("name", PTB)
def test_penn_treebank_table(name: str) -> None:
    config = load_config(name)
    data, model, training = config.data, config.model, config.training
    assert PTB[name] == (
        model.init_scale,
        training.learning_rate,
        training.max_grad_norm,
        model.num_layers,
        data.tbptt_length,
        model.hidden_size,
        training.lr_decay_after_epoch,
        training.epochs,
        model.dropout,
        training.lr_decay,
    )
    assert (data.batch_size, data.vocabulary_size, data.level) == (20, 10_000, "word")
    assert (model.cell, model.forget_bias, model.tie_weights) == ("lstm", 0, False)
    assert model.embedding_size in (0, model.hidden_size)
    assert (training.optimizer, training.weight_decay, training.precision) == ("sgd", 0, "fp32")


def test_comments_scratch() -> None:
    config = load_config("comments-scratch")
    data, model, training = config.data, config.model, config.training
    assert (data.vocabulary_size, data.column, data.max_sentences) == (8000, "body", 0)
    assert (model.cell, model.num_layers, model.hidden_size, model.one_hot) == ("lstm", 1, 100, True)
    assert (training.optimizer, training.learning_rate, training.lr_decay_on_rise) == ("sgd", 0.005, 0.5)
    assert (training.max_grad_norm, training.weight_decay) == (0, 0)


def test_demo_needs_no_download() -> None:
    assert load_config("demo").data.builtin == "python-docs"


def test_mnist_rows_is_the_tutorials() -> None:
    config = load_config("mnist-rows")
    data, model, training = config.data, config.model, config.training
    assert (data.batch_size, data.valid_size) == (128, 5000)
    assert (model.cell, model.num_layers, model.hidden_size, model.forget_bias) == ("lstm", 2, 256, 1.0)
    assert (model.dropout, model.pooling, model.decoder_std, model.decoder_bias) == (0.5, "last", 0.1, 0.1)
    assert (training.optimizer, training.learning_rate) == ("adam", 0.001)
    assert (training.max_steps, training.eval_every) == (2000, 200)
