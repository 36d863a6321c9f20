"""Train a small language model on the language reference bundled with Python, then score and continue a text."""

import torch

import gatewise as gw

run = gw.train("demo", overrides={"model.hidden_size": 64, "training.max_steps": 300})
print(
    f"test perplexity {run.metrics['test_perplexity']:.1f}, unigram model "
    f"{run.metrics['unigram_test_perplexity']:.1f}; the run is in {run.path}"
)

lm = gw.load(run.path)
for text in ("the value of the expression is an object", "object an is expression the of value the"):
    print(f"perplexity {lm.perplexity([text]):6.1f}: {text}")
print(lm.generate("the value of", max_tokens=20, temperature=0.7, seed=1))

# The state is a value: read a beginning once, and continue from it as often as you like.
state = lm.initial_state(batch_size=1)
for token in lm.vocabulary.encode_text("the value of")[:-1]:
    logits, state = lm.step(torch.tensor([token]), state)
share, token = logits[0].softmax(-1).max(-1)
print(f"most probable next word: {lm.vocabulary.tokens[token]} ({share:.0%})")
