"""What it costs to merge every pair of branches in flight in memory, and to ask again.

    python -m bench.conflicts                # 64 branches of a repository with 5,000 files

Beside it, in the same run and in turns, some of the pairs are merged by a `git merge-tree` process
each, which is what a script would do. Counted are the medians of some rounds.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from statistics import median

from bench.repository import git, workplace
from gitwaves.git import Repo
from gitwaves.model import Oid
from gitwaves.pairs import Pair, conflicts_of

LIMIT_ALL = 0.5  # of a process for each pair
LIMIT_AGAIN = 0.1  # of the first time
_SAMPLE = 100  # pairs that get a process of their own


def main() -> int:
    """Measures, and prints both ratios; 1 where one is above its limit."""
    parser = argparse.ArgumentParser(description="Every pair of branches, merged in memory.")
    parser.add_argument("--branches", type=int, default=64, help="how many (%(default)s)")
    parser.add_argument("--files", type=int, default=5000, help="in each of them (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (%(default)s)")
    args = parser.parse_args()
    with workplace() as folder:
        top = folder / "repository"
        git(folder, "init", "-q", "-b", "main", str(top))
        history = "".join(_history(args.branches, args.files))
        git(top, "fast-import", "--quiet", stdin=history.encode())
        git(top, "reset", "-q", "--hard", "main")
        repo = Repo.open(top)
        tips = [Oid(git(top, "rev-parse", f"ws/{n}")) for n in range(args.branches)]
        return _measure(repo, list(combinations(tips, 2)), args.rounds)


def _measure(repo: Repo, pairs: list[Pair], rounds: int) -> int:
    sample = random.Random(1).sample(pairs, min(_SAMPLE, len(pairs)))
    alone, first, again = [], [], []
    for _ in range(rounds):
        shutil.rmtree(repo.state_dir / "merges", ignore_errors=True)
        first.append(_timed(lambda: conflicts_of(repo, pairs)))
        again.append(_timed(lambda: conflicts_of(repo, pairs)))
        alone.append(_timed(lambda: _one_by_one(repo, sample)))
    hit = sum(bool(files) for files in conflicts_of(repo, pairs))
    each = median(alone) / len(sample) * len(pairs)
    all_of_each, again_of_all = median(first) / each, median(again) / median(first)
    print(f"{len(pairs)} pairs, of which {hit} do not merge")
    print(f"all of them at once        {median(first):.2f} s")
    print(f"a process for each         {each:.2f} s   (from {len(sample)} of them)")
    print(f"all of them again, known   {median(again):.3f} s")
    print(f"ratio, at once to each     {all_of_each:.2f}   limit {LIMIT_ALL}")
    print(f"ratio, again to at once    {again_of_all:.2f}   limit {LIMIT_AGAIN}")
    return int(all_of_each > LIMIT_ALL or again_of_all > LIMIT_AGAIN)


def _timed(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def _one_by_one(repo: Repo, pairs: list[Pair]) -> None:
    for pair in pairs:
        args = ("git", "merge-tree", "--write-tree", "--name-only", "--no-messages", *pair)
        subprocess.run(args, cwd=repo.top, capture_output=True, check=False)


def _history(branches: int, files: int) -> Iterator[str]:
    """Input of `git fast-import`: a trunk, and branches of three commits with a dozen changes."""
    chance = random.Random(1)

    def text(file: int, line: int, said: str) -> str:
        return "".join(f"{said if n == line else n} of {file}\n" for n in range(30))

    def change(file: int, body: str) -> str:
        return f"M 100644 inline d{file % 70}/f{file}.txt\n" + data(body)

    def data(body: str) -> str:
        return f"data {len(body)}\n{body}\n"

    who = "committer Bench <bench@example.com> 0 +0000\n"
    yield "commit refs/heads/main\nmark :1\n" + who + data("Seed")
    yield from (change(file, text(file, -1, "")) for file in range(files))
    for branch in range(branches):
        for number in range(3):
            yield f"commit refs/heads/ws/{branch}\n" + who + data(f"Change {number}")
            yield "" if number else "from :1\n"
            for _ in range(3):
                file = chance.randrange(files)
                yield change(file, text(file, chance.randrange(30), f"by {branch}"))
            old = chance.randrange(files // 100)  # a few files are renamed by many
            if not number:
                yield f"R d{old % 70}/f{old}.txt d{old % 70}/f{old}.{chance.choice('xyz')}\n"


if __name__ == "__main__":
    sys.exit(main())
