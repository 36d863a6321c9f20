"""The command ``gatewise``, which is also ``python -m gatewise``."""

import sys

from gatewise.errors import MissingPackage
from gatewise.extras import import_extra


def run() -> None:
    """Run the command line, or name the extra that it needs."""
    extra = {"score": "scoring", "serve": "serve"}.get("".join(sys.argv[1:2]), "train")
    try:
        main = import_extra("gatewise.cli.main", "", "the command line", extra)
    except MissingPackage as problem:
        print(f"gatewise: {problem}", file=sys.stderr)
        sys.exit(problem.exit_status)
    main.run()


if __name__ == "__main__":
    run()
