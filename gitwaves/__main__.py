"""Runs `python -m gitwaves` as the console script does; what the hooks run, too."""

from gitwaves.quick import main

if __name__ == "__main__":
    main()
