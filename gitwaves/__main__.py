"""Runs `python -m gitwaves` as the console script does."""

import sys

try:
    from gitwaves.cli import main
except ImportError as error:  # exit 1 would be a refusal, and the hook would refuse the commit
    sys.stderr.write(f"gitwaves: cannot start: {error}\n")
    sys.exit(3)

if __name__ == "__main__":
    main()
