"""``python -m rlab`` is the command ``rlab``."""

import sys

from rlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
