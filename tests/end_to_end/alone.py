"""Computes test figures of runs from their test files, with ``gatewise.runtime``, NumPy and the standard library alone.

``python -I alone.py NAME RUN FILE ...`` prints a JSON object: of each run, its test figure and what the figure is made
of; and what there is to import. The functions take the models of PyTorch, too.
"""

import csv
import importlib.metadata
import importlib.util
import json
import math
import re
import sys
import time
from itertools import zip_longest
from pathlib import Path

import numpy as np


def language_model(model, file):
    """The perplexity of the whole text, as one sequence."""
    lines = file.read_text("utf-8").removesuffix("\n").split("\n")
    nll, tokens = model.score([index for line in lines for index in model.vocabulary.encode_line(line)])
    return math.exp(nll / tokens), [nll, tokens]


def sentences(model, file):
    """The loss of each sentence, after ``<bos>``."""
    with file.open(encoding="utf-8", newline="") as rows:
        texts = [row["body"] for row in csv.DictReader(rows)]
    return math.log(model.perplexity(texts)), [model.perplexity([text]) for text in texts]


def tagged(file):
    """The words, tags and name of each sentence of a CoNLL-U file."""
    for part in file.read_text("utf-8").strip().split("\n\n"):
        rows = [line.split("\t") for line in part.split("\n") if re.match(r"\d+\t", line)]
        yield [row[1] for row in rows], [row[3] for row in rows], re.search("sent_id = (.*)", part)[1]


def tagger(model, file):
    """The share of words with the right tag."""
    words, tags, _ = zip(*tagged(file), strict=True)
    found = model.tag(words)
    right = [a == b for row, gold in zip(found, tags, strict=True) for a, b in zip_longest(row, gold)]
    return float(np.mean(right)), found


def text_classifier(model, file):
    """The share of sentences with the right genre."""
    words, _, names = zip(*tagged(file), strict=True)
    right = [a == name.partition("-")[0] for a, name in zip(model.predict(words), names, strict=True)]
    return float(np.mean(right)), np.asarray(model.predict_proba(words)).tolist()


def classifier(model, file):
    """The share of sequences with the right label."""
    part = np.load(file)
    return float(np.mean(model.predict(part["x"]) == part["y"])), np.asarray(model.predict_proba(part["x"])).tolist()


def regressor(model, file):
    """The root mean squared error of predictions."""
    part = np.load(file)
    found = np.asarray(model.predict(part["x"]))
    return float(np.sqrt(np.mean((found - part["y"]) ** 2))), found.tolist()


FIGURES = {
    "language-model": language_model,
    "scratch-language-model": sentences,
    "tagger": tagger,
    "text-classifier": text_classifier,
    "classifier": classifier,
    "forecaster": regressor,
    "memory-task": regressor,
}


def main():
    began = time.process_time()
    from gatewise import runtime

    seconds = time.process_time() - began
    cases = zip(*(iter(sys.argv[1:]),) * 3, strict=True)
    runs = {task: FIGURES[task](runtime.load(run), Path(file)) for task, run, file in cases}
    distributions = sorted(found.metadata["Name"] for found in importlib.metadata.distributions())
    torch = importlib.util.find_spec("torch") is not None
    print(json.dumps({"runs": runs, "distributions": distributions, "torch": torch, "import_seconds": seconds}))


if __name__ == "__main__":
    main()
