"""What the commands that read take, against `git status` in the same repository, in the same turns.

python -m bench.status                                   # the table of docs/performance.md
python -m bench.status --cards 1000 --branches 8 --files 1500
python -m bench.status --only unchanged,changed
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.measure import GITWAVES, HEAD, Row, Way, end, in_turns, row
from bench.repository import Made, Size, sealed
from gitwaves.model import Oid

PARTS = ("unchanged", "changed", "warm", "cold")


class Reads:
    """One repository, and what is measured in it."""

    def __init__(self, made: Made, rounds: int) -> None:
        self._made = made
        self._rounds = rounds
        self._change = itertools.count()
        self._tree = Oid(made.git("rev-parse", "main^{tree}"))
        self.rows: list[Row] = []
        self.memory = 0

    def _git(self) -> Way:
        return Way(["git", "status"], self._made.path)

    def _ours(self, *args: str, before: Callable[[], object] | None = None) -> Way:
        return Way([GITWAVES, *args], self._made.path, before)

    def one_card(self) -> None:
        """Commits one changed card on a branch that is not checked out."""
        made, n = self._made, next(self._change)
        branch = n % made.size.branches
        per_branch = -(-made.size.cards // made.size.branches)
        path, ref = made.card(branch, per_branch // 3), f"refs/heads/ws/S{branch}"
        data = made.claimed(branch, per_branch // 3, self._tree).replace(
            b"attempts: 1", f"attempts: {n + 2}".encode()
        )
        head = f"commit {ref}\ncommitter Bench <b@example.com> {1760000000 + n} +0000\n"
        body = f"data 6\nchange\nfrom {ref}^0\nM 100644 inline {path}\ndata {len(data)}\n"
        stream = (head + body).encode() + data + b"\ndone\n"
        made.git("fast-import", "--quiet", "--done", stdin=stream)

    def forget(self) -> None:
        """Deletes all caches."""
        shutil.rmtree(self._made.path / ".git" / "gitwaves", ignore_errors=True)

    def unchanged(self) -> None:
        base, python = self._git(), Way([sys.executable, "-c", "pass"], self._made.path)
        text, json = self._ours("status"), self._ours("status", "--json")
        in_turns([base, python, text, json], self._rounds * 3)
        self._add("status, nothing changed", text, base, 1.0)
        self._add("status, nothing changed, against `python -c pass`", text, python, 2.0)
        self._add("status --json, nothing changed", json, base, None)

    def changed(self) -> None:
        base, ours = self._git(), self._ours("status", before=self.one_card)
        in_turns([base, ours], self._rounds)
        self._add("status, one card changed", ours, base, 3.0)

    def warm(self) -> None:
        made = self._made
        card = made.path / made.card(0, 0)
        text = card.read_text()

        def edit() -> None:
            card.write_text(text.replace("line 3 of", f"version {next(self._change)} of"))

        base = self._git()
        ways = {
            "next": self._ours("next", before=self.one_card),
            "show": self._ours("show", "S0T1", before=self.one_card),
            "check": self._ours("check", before=edit),
        }
        in_turns([base, *ways.values()], self._rounds)
        card.write_text(text)
        for name, way in ways.items():
            self._add(f"{name}, one card changed", way, base, 3.0)

    def cold(self) -> None:
        base, ours = self._git(), self._ours("status", before=self.forget)
        in_turns([base, ours], max(2, self._rounds // 3))
        self._add("status, cold (no cache)", ours, base, 30.0)

    def _add(self, what: str, way: Way, base: Way, limit: float | None) -> None:
        self.memory = max(self.memory, way.memory)
        self.rows.append(row(what, way, base, limit))
        print(self.rows[-1], flush=True)


def main() -> int:
    """Measures, prints a table, and gives 1 where a ratio is above its limit."""
    parser = argparse.ArgumentParser(description="What reading takes, against `git status`.")
    parser.add_argument("--cards", type=int, default=Size.cards)
    parser.add_argument("--branches", type=int, default=Size.branches)
    parser.add_argument("--files", type=int, default=Size.files)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default=",".join(PARTS), help="parts (%(default)s)")
    parser.add_argument("--keep", type=Path, help="make the repository there, and use it again")
    args = parser.parse_args()
    size = Size(args.cards, args.branches, args.files)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        top = Path(folder).resolve()
        sealed(top)
        path = args.keep or top / "repo"
        made = Made(path, size) if path.exists() else Made.make(path, size)
        print(f"{size}\n{HEAD}")
        reads = Reads(made, args.rounds)
        for part in args.only.split(","):
            getattr(reads, part)()
    print(f"most memory of one process: {reads.memory / 1024:.0f} MiB")
    return end(reads.rows)


if __name__ == "__main__":
    sys.exit(main())
