"""Vocabularies as files of the ``tokenizers`` library, which other programs can load."""

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase, Replace, Sequence
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

from gatewise.runtime.lexicon import Lexicon
from gatewise.runtime.prose import CURLY
from gatewise.runtime.vocabulary import BOS, CUTS, EOS, UNK, Vocabulary


def vocabulary_json(vocabulary: Vocabulary) -> str:
    """Return a vocabulary as JSON: ids, splitting, the final ``<eos>`` and the start token."""
    tokenizer = Tokenizer(WordLevel(vocab=vocabulary.ids, unk_token=UNK))
    if vocabulary.level == "prose":
        tokenizer.normalizer = Sequence([Lowercase(), *(Replace(Regex(curly), straight) for curly, straight in CURLY)])
    pattern, behavior = CUTS[vocabulary.level]
    tokenizer.pre_tokenizer = Split(Regex(pattern), behavior=behavior, invert=vocabulary.level == "prose")
    single, specials = f"$A {EOS}", [(EOS, vocabulary.eos_id)]
    if vocabulary.bos_id is not None:
        single, specials = f"{BOS} {single}", [(BOS, vocabulary.bos_id), *specials]
    tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=specials)
    return str(tokenizer.to_str(pretty=True))


def lexicon_json(lexicon: Lexicon) -> str:
    """Return a vocabulary of pre-split tokens as JSON; it does not split its input."""
    tokenizer = Tokenizer(WordLevel(vocab=lexicon.ids, unk_token=UNK))
    if lexicon.lowercase:
        tokenizer.normalizer = Lowercase()
    return str(tokenizer.to_str(pretty=True))
