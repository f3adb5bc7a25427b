"""Measure what docs/performance.md shows: `python docs/performance.py [NAME ...]`, then `make docs`.

Each run is a command that anybody can give; what it measures goes into docs/performance/NAME.json.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from vertebra.cli.main import main as vertebra

FOLDER = Path(__file__).parent / "performance"
RUNS = {
    "train-ner-small": "train --shape 6x384 --data conll --steps 12 --repeats 3",
    "train-ner-gpt2": "train --shape gpt2 --data conll --steps 4 --repeats 3 --threads 2",
    "train-ner-gpt2-one-thread": "train --shape gpt2 --data conll --steps 4 --repeats 3",
    "train-sst2-small": "train --shape 6x384 --data sst2 --steps 6 --repeats 3",
    "pretrain-nano": "pretrain --steps 4 --repeats 3",
    "evaluate-ner-small": "evaluate --shape 6x384 --data conll --repeats 3",
    "evaluate-ner-gpt2": "evaluate --shape gpt2 --data conll --repeats 3 --threads 2",
    "evaluate-memory": "evaluate --shape 2x128 --data conll --repeats 3 --memory",
    "generate-small": "generate --shape 6x384 --data conll --repeats 3",
    "probe-small": "probe --shape 6x384 --data conll --rows 2048 --repeats 3",
    "bundle-gpt2": "bundle --rows 64 --repeats 3",
    "sweep": "sweep",
    "startup": "startup",
}


def main(names: list[str]) -> int:
    """Make the named runs, or all of them; return the exit code of the first that fails."""
    unknown = sorted(set(names) - set(RUNS))
    if unknown:
        print(f"There is no run {', '.join(unknown)}; there are {', '.join(RUNS)}.", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    for name in names or RUNS:
        code = vertebra(["speed", *shlex.split(RUNS[name]), "--json", str(FOLDER / f"{name}.json")])
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
