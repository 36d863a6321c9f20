"""Score Parquet files with Spark: ``python spark.py RUN IN OUT``, or ``spark-submit``.

Each Python worker opens the model once and computes with one thread. Needs ``pip install 'gatewise[scoring]' pyspark``
and Java; the workers need no PyTorch, and must see RUN at the same path.
"""

import os
import sys

from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from gatewise.runtime.scoring import Scorer


def main(run: str, files: str, out: str) -> None:
    """Add the scores of a run to the rows of a file or folder, and write them to another folder."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("score").getOrCreate()
    rows, scorer = spark.read.parquet(files), Scorer(run)
    schema = from_arrow_schema(scorer.schema(to_arrow_schema(rows.schema)))
    rows.mapInArrow(scorer, schema).write.parquet(out)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:4])
