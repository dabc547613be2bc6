"""Runs `python -m gitwaves` as the console script does."""

import sys

from gitwaves.cli import main

if __name__ == "__main__":
    sys.exit(main())
