"""Runs `python -m gitwaves` as the console script does."""

from gitwaves.cli import main

if __name__ == "__main__":
    main()
