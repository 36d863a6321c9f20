"""gatewise.Client with `gatewise serve`: python examples/serve/client.py [URL] (needs gatewise[client])."""

import sys

import gatewise as gw

client = gw.Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
model = next((one["id"] for one in client.models() if one["task"] == "language-model"), None)
print(client.complete("the value of", model=model, max_tokens=20, temperature=0.7, seed=1))

with client.session(model) as session:
    session.feed("the value of")
    for token in session.stream(max_tokens=10, seed=1, gates=True, top=1):
        open_ = next(iter(token.gates.values()))[-1].mean()  # the first gate, of the last layer
        print(f"{token.text!r:>14}  probability {token.probability:.3f}  {next(iter(token.gates))} {open_:.2f}")
    with session.fork() as other:  # two ways to go on from here
        print(session.generate(max_tokens=10, seed=2), "|", other.generate(max_tokens=10, seed=3))
    state = session.save()  # bytes: runtime.load(...).load_state(state) reads them, too
    session.load(state)
    print("the session has read", session.position, "tokens")
