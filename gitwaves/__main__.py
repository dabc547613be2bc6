"""Runs `python -m gitwaves` as the console script does."""

from gitwaves.quick import main

if __name__ == "__main__":
    main()
