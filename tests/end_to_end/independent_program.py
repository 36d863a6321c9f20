"""Scores a run's test text in plain PyTorch, without Gatewise: python independent_program.py RUN TEXT."""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

run, text = Path(sys.argv[1]), Path(sys.argv[2])
weights = load_file(run / "model.safetensors")
ids = json.loads((run / "tokenizer.json").read_text())["model"]["vocab"]

vocabulary, embedding_size = weights["embedding.weight"].shape
hidden_size = weights["rnn.weight_hh_l0"].shape[1]
num_layers = sum(name.startswith("rnn.weight_hh_l") for name in weights)
embedding = torch.nn.Embedding(vocabulary, embedding_size)
rnn = torch.nn.LSTM(embedding_size, hidden_size, num_layers)
decoder = torch.nn.Linear(hidden_size, vocabulary)
for name, module in (("embedding", embedding), ("rnn", rnn), ("decoder", decoder)):
    module.load_state_dict({k.removeprefix(f"{name}."): w for k, w in weights.items() if k.startswith(f"{name}.")})

words = [w for line in text.read_text().split("\n")[:-1] for w in [*line.split(), "<eos>"]]
stream = torch.tensor([ids.get(word, ids["<unk>"]) for word in words])
nll, state = 0.0, None
with torch.no_grad():
    for start in range(0, len(stream) - 1, 500):
        piece = stream[start : start + 501]
        y, state = rnn(embedding(piece[:-1, None]), state)
        nll += float(torch.nn.functional.cross_entropy(decoder(y[:, 0]), piece[1:], reduction="sum"))
print(json.dumps({"perplexity": math.exp(nll / (len(stream) - 1)), "tokens": len(stream) - 1}))
