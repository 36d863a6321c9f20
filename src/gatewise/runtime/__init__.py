"""Inference without PyTorch: everything in this package runs with NumPy alone.

``load`` reads a run folder of any task, or a file that ``gatewise export RUN --to runtime`` wrote. Training and the
PyTorch models use the same code for all that both need.

>>> from gatewise import runtime
>>> lm = runtime.load("runs/demo")
>>> lm.generate("the value of", max_tokens=20, seed=1)
>>> state = lm.initial_state()
>>> logits = lm.step([lm.vocabulary.eos_id], [state])
"""

from gatewise.runtime.answers import Verdict
from gatewise.runtime.language_model import LanguageModel
from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.loading import load
from gatewise.runtime.model import Model, State
from gatewise.runtime.parts import Labels, Scaling
from gatewise.runtime.run_reader import RunReader
from gatewise.runtime.sampling import Sampler
from gatewise.runtime.sequence_classifier import SequenceClassifier
from gatewise.runtime.sequence_regressor import SequenceRegressor
from gatewise.runtime.tagger import Tagger
from gatewise.runtime.text_classifier import TextClassifier
from gatewise.runtime.viterbi import viterbi
from gatewise.runtime.vocabulary import Vocabulary

__all__ = [
    "Labels",
    "LanguageModel",
    "Lexicon",
    "Model",
    "RunReader",
    "Sampler",
    "Scaling",
    "SequenceClassifier",
    "SequenceRegressor",
    "State",
    "Tagger",
    "TextClassifier",
    "Verdict",
    "Vocabulary",
    "load",
    "viterbi",
]
