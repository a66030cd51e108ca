"""``python -m tightbatch``."""

import sys

from tightbatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
