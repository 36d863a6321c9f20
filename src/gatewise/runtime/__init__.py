"""What inference needs without PyTorch: everything in this package runs with NumPy alone.

Readers of a run folder, from the configuration to the weights; vocabularies; the best sequence of tags; sampling.
Training and the PyTorch models use the same code.

>>> from gatewise.runtime import RunReader
>>> run = RunReader.existing("runs/demo")
>>> vocabulary = run.read_vocabulary(run.read_settings()["data.level"])
>>> vocabulary.encode_line("the value is")
"""

from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.parts import Labels, Scaling
from gatewise.runtime.run_reader import RunReader
from gatewise.runtime.sampling import Sampler
from gatewise.runtime.viterbi import viterbi
from gatewise.runtime.vocabulary import Vocabulary

__all__ = ["Labels", "Lexicon", "RunReader", "Sampler", "Scaling", "Vocabulary", "viterbi"]
