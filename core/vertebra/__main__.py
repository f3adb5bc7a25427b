"""`python -m vertebra` is `vertebra`."""

from __future__ import annotations

import sys

from vertebra.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
