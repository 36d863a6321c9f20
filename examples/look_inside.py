"""Print the forget gates of a language model over a sentence."""

import torch

import gatewise as gw

run = gw.train("demo", overrides={"model.hidden_size": 64, "training.max_steps": 300})
lm = gw.load(run.path)

words = ["the", "value", "of", "the", "expression", "is", "an", "object", "."]
ids = torch.tensor([lm.vocabulary.encode_text(" ".join(words))[:-1]]).T  # (T, B): time first
y, state, trace = lm.rnn(lm.embedding(ids), trace=("i", "f", "g", "o", "c"))
forget = trace["f"][0, 0, :, 0].detach()  # (layers, directions, T, B, H) → (T, H)

longest = forget.mean(0).topk(5).indices  # the units that remember longest
print("forget gates of the five units that remember longest, and the mean of all units:")
for word, gates in zip(words, forget, strict=True):
    print(f"{word:12}", "  ".join(f"{gate:.2f}" for gate in gates[longest]), f"   {gates.mean():.2f}")
