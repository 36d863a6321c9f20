"""A server of every task starts, says what it serves, and ends."""

from pathlib import Path

from gatewise import runtime
from tests.serving.rig import NAMES, STREAMED, Server


def test_models(server: Server, runs: dict[str, Path]) -> None:
    assert server.get("/health") == {"status": "ok"}
    assert server.get("/ready") == {"status": "ready"}
    listed = server.get("/v1/models")
    assert listed["object"] == "list"
    assert [one["id"] for one in listed["data"]] == list(NAMES)
    for about in listed["data"]:
        model = runtime.load(runs[about["id"]])
        assert server.get(f"/v1/models/{about['id']}") == about
        assert (about["object"], about["owned_by"]) == ("model", "gatewise")
        assert (about["task"], about["cell"], about["weights"]) == (model.task, model.cell, model.weights)
        assert (about["layers"], about["hidden"]) == (model.num_layers, model.hidden_size)
        assert about["directions"] == 1 + model.bidirectional
        assert about["streams"] == model.streams == (about["id"] in STREAMED)
        assert (about["gates"] is None) != about["streams"]
        if about["gates"]:
            assert [one["name"] for one in about["gates"]] == list(model.traced)
