"""``python -m dpmodel.export.trial FILE``: load an exported file, run its test, tell in JSON how it went."""

import json
import sys

from dpmodel.errors import DpmodelError
from dpmodel.export.read import trial


def main(path: str) -> None:
    """Print what ``trial`` finds; an error is one line on standard error."""
    try:
        report = trial(path)
    except DpmodelError as error:
        sys.exit(str(error))
    sys.stdout.write("\n" + json.dumps(report) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
