"""Give an LSTM and a plain RNN the adding problem: keep a number until the end of the sequence.

Who always answers 1 has a root mean square error of 0.41; a short sequence and a small model show the difference.
"""

import gatewise as gw

for cell in ("rnn_tanh", "lstm"):
    overrides = {"model.cell": cell, "data.length": 20, "model.hidden_size": 32, "training.max_steps": 600}
    if cell == "rnn_tanh":
        overrides["model.forget_bias"] = 0.0  # it has no forget gate
    run = gw.train("memory-task", overrides=overrides)
    print(f"{cell:8} test RMSE {run.metrics['test_rmse']:.3f}")
