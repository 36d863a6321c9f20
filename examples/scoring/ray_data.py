"""Score Parquet files with Ray Data: ``python ray_data.py RUN IN OUT``.

Each worker opens the model once and computes with one thread. Needs ``pip install 'gatewise[scoring]' 'ray[data]'``;
the workers need no PyTorch, and must see RUN at the same path.
"""

import sys

import ray

from gatewise.runtime.scoring import Scorer


def main(run: str, files: str, out: str) -> None:
    """Add the scores of a run to the rows of a file or folder, and write them to another folder."""
    rows = ray.data.read_parquet(files)
    rows.map_batches(Scorer(run), batch_format="pyarrow").write_parquet(out)


if __name__ == "__main__":
    main(*sys.argv[1:4])
