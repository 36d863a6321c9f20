"""The plain openai package with `gatewise serve`: python examples/serve/openai_completions.py [URL] (needs openai)."""

import os
import sys

from openai import OpenAI

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("GATEWISE_KEY", "none"))
model = next(model.id for model in client.models.list() if model.task == "language-model")

answer = client.completions.create(model=model, prompt="the value of", max_tokens=20, temperature=0.7, seed=1)
print(answer.choices[0].text, answer.usage)

for part in client.completions.create(model=model, prompt="the value of", max_tokens=20, seed=2, stream=True):
    print(part.choices[0].text, end="", flush=True)
print()

scored = client.completions.create(model=model, prompt="the value", max_tokens=1, temperature=0, logprobs=3)
print(scored.choices[0].logprobs.top_logprobs[0])
