"""``python -m tightbatch``: the same as the command ``tightbatch``."""

from __future__ import annotations

import sys

from tightbatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
