"""What the commands that read take, against `git status` in the same repository, in the same turns.

python -m bench.status                      # the table of docs/performance.md
python -m bench.status --cards 1000 --branches 8 --files 1500
python -m bench.status --only unchanged,changed
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from bench.measure import GITWAVES, Table, Way, in_turns
from bench.repository import Made, Size, options, size_of, workplace
from gitwaves.model import Oid

_MEMORY = 60  # MiB that a process may take
PARTS = ("unchanged", "changed", "warm", "cold", "straightforward")


class Reader:
    """What is run in one repository, and what is done to it before: one card changed, no cache."""

    def __init__(self, made: Made) -> None:
        self._made = made
        self._change = itertools.count()
        self._need = itertools.count()
        self._tree = Oid(made.git("rev-parse", "main^{tree}"))

    def git_status(self) -> Way:
        """What all is compared to."""
        return Way(["git", "status"], self._made.path)

    def python(self) -> Way:
        """The least that any Python takes."""
        return Way([sys.executable, "-c", "pass"], self._made.path)

    def look(self) -> Way:
        """What the note on uncommitted cards cannot do without: Git looks at the file of each."""
        looks = ["git", "diff-files", "--quiet", "--", ".workstreams"]
        return Way(looks, self._made.path)

    def look_again(self) -> None:
        """Makes the last look at all files one of long ago."""
        for record in (self._made.path / ".git/gitwaves/clean").glob("*"):
            os.utime(record, (0, 0))

    def ours(self, *args: str, before: Callable[[], object] | None = None) -> Way:
        """A command of gitwaves."""
        return Way([GITWAVES, *args], self._made.path, before)

    def obvious(self) -> Way:
        """`status` as it is usually written."""
        script = Path(__file__).with_name("straightforward.py")
        return Way([sys.executable, str(script)], self._made.path)

    def one_card(self) -> None:
        """Commits one changed card on a branch that is not checked out."""
        made, n = self._made, next(self._change)
        branch = n % len(made.streams())
        path, ref = made.card(branch, made.next), f"refs/heads/ws/S{branch}"
        data = made.claimed(branch, self._tree, attempts=n + 2)
        head = f"commit {ref}\ncommitter Bench <b@example.com> {1760000000 + n} +0000\n"
        body = f"data 6\nchange\nfrom {ref}^0\nM 100644 inline {path}\ndata {len(data)}\n"
        stream = (head + body).encode() + data + b"\ndone\n"
        made.git("fast-import", "--quiet", "--done", stdin=stream)

    def one_spec(self) -> None:
        """Commits another spec of one card on trunk, which is checked out: from there all follows."""
        self.edit()
        self._made.git("commit", "-q", "-a", "-m", "Another spec")

    def one_need(self) -> None:
        """The same with a card that needs another task: the plan is put in another order."""
        self.need_another()
        self._made.git("commit", "-q", "-a", "-m", "Another need")

    def edit(self) -> None:
        """Changes the text of one card in the working tree."""
        self._rewrite(
            self._made.card(0, 0), r"(line 3|version \d+) of", f"version {next(self._change)} of"
        )

    def need_another(self) -> None:
        """Changes what one card that nobody has begun needs in the working tree."""
        made, n = self._made, next(self._need)
        needs = [made.task(branch, n % made.next) for branch in range(1 + n % 2)]
        self._rewrite(
            made.card(len(made.streams()) - 1, made.next + 1),
            r"(depends_on:).*",
            rf"\1 [{', '.join(needs)}]",
        )

    def _rewrite(self, card: str, old: str, new: str) -> None:
        made = self._made
        (made.path / card).write_text(re.sub(old, new, made.git("show", f"main:{card}")) + "\n")

    def restore(self) -> None:
        """Takes changes in the working tree back."""
        self._made.git("checkout", "-q", "--", ".workstreams")

    def settle(self) -> None:
        """Has all pairs of branches merged, as `status` does by and by: only then it keeps an answer."""
        self.ours("conflicts").once()

    def forget(self) -> None:
        """Deletes all caches."""
        shutil.rmtree(self._made.path / ".git" / "gitwaves", ignore_errors=True)


class Parts:
    """The parts of the table, each measured on its own."""

    def __init__(self, reader: Reader, table: Table, rounds: int) -> None:
        self._reader = reader
        self._table = table
        self._rounds = rounds
        self.memory: list[tuple[float, str]] = []  # MiB, and of what

    def _add(self, what: str, way: Way, base: Way, most: float | None = None) -> None:
        self.memory.append((way.memory(), what))
        self._table.add(what, way, base, most)

    def unchanged(self) -> None:
        reader = self._reader
        base, python = reader.git_status(), reader.python()
        text, json, look = reader.ours("status"), reader.ours("status", "--json"), reader.look()
        seldom = reader.ours("status", before=reader.look_again)
        in_turns([base, python, text, json, look, seldom], self._rounds * 3)
        self._add("status, nothing changed", text, base, 1)
        self._add("status, nothing changed, against `python -c pass`", text, python, 2)
        self._add("status, the first in ten seconds", seldom, base, 1)
        self._add("status, the first in ten seconds, against `python -c pass`", seldom, python)
        self._table.add("`git diff-files` of its cards, against the same", look, python)
        self._add("status --json, nothing changed", json, base)

    def changed(self) -> None:
        reader = self._reader
        base, ours = reader.git_status(), reader.ours("status", before=reader.one_card)
        on_trunk = reader.ours("status", before=reader.one_spec)
        needs = reader.ours("status", before=reader.one_need)
        in_turns([base, ours, on_trunk, needs], self._rounds)
        self._add("status, one card changed", ours, base, 3)
        self._add("status, one card changed on trunk", on_trunk, base, 3)
        self._add("status, one card needs another task", needs, base, 3)
        json = reader.ours("status", "--json", before=reader.one_card)
        self.memory.append((json.memory(), "status --json, one card changed"))

    def warm(self) -> None:
        reader = self._reader
        base = reader.git_status()
        ways = {
            "next": reader.ours("next", before=reader.one_card),
            "show": reader.ours("show", "S0T1", before=reader.one_card),
            "check": reader.ours("check", before=reader.edit),
        }
        in_turns([base, *ways.values()], self._rounds)
        reader.restore()
        for name, way in ways.items():
            self._add(f"{name}, one card changed", way, base, 3)
        needs = reader.ours("check", before=reader.need_another)
        in_turns([base, needs], self._rounds)
        reader.restore()
        self._add("check, one card needs another task", needs, base, 3)

    def cold(self) -> None:
        reader = self._reader
        base, ours = reader.git_status(), reader.ours("status", before=reader.forget)
        in_turns([base, ours], max(2, self._rounds // 3))
        self._add("status, no cache", ours, base, 30)

    def straightforward(self) -> None:
        """What the obvious way takes, whatever changed; once, as it takes so long."""
        reader = self._reader
        base, obvious = reader.git_status(), reader.obvious()
        base.once()
        obvious.once()
        self._table.add("status, the straightforward way", obvious, base)


def main() -> int:
    """Measures, prints a table, and gives 1 where a ratio is beyond its limit."""
    parser = options("What reading takes, against `git status`.", 5, Size())
    parser.add_argument("--only", default=",".join(PARTS), help="parts (%(default)s)")
    parser.add_argument("--keep", type=Path, help="make the repository there, and use it again")
    args = parser.parse_args()
    size = size_of(args)
    with workplace() as top:
        path = args.keep or top / "repo"
        made = Made(path, size) if path.exists() else Made.make(path, size)
        table = Table(f"Reading: {size}; the base is `git status` where nothing else is said")
        reader = Reader(made)
        reader.settle()
        parts = Parts(reader, table, args.rounds)
        for part in args.only.split(","):
            getattr(parts, part)()
    missed = table.end()
    for memory, what in parts.memory:
        print(f"{what}: {memory:.0f} MiB, limit {_MEMORY}{' !' * (memory > _MEMORY)}")
        missed |= memory > _MEMORY
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
