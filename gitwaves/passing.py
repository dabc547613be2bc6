"""What plainly may pass at the server's door, told in a few milliseconds.

`receiving` says what a push may not do, and takes as long to start as most of gitwaves takes to be
imported. Nearly every push is one of few kinds: work within a boundary, a claim, a done commit, a
landing. Those are ruled in here, by proof: whatever is not understood at a glance is left to
`receiving`, so that this can be slow to believe and never has to explain.

Nothing is imported here that Python has not loaded anyway, or that is not a C module: no `re`, no
`dataclasses`, no `subprocess`, nothing of gitwaves but `plaintext`.
"""

from __future__ import annotations

import posix
import sys

from gitwaves.plaintext import (
    Covers,
    Odd,
    card_digest,
    config_of,
    halves,
    hashed,
    paths_of,
    stream_of,
    tracking_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from gitwaves.plaintext import Evidence

HEADS = "refs/heads/"
ROOT = ".workstreams"
POINTS = "merge-points"


def main() -> None:
    """Exits 0 where the push that standard input tells of may pass; else it has to be looked at."""
    try:
        given = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        fine = Door(posix.getcwd()).passes(given)
    except (Odd, OSError, ValueError, IndexError, KeyError):
        fine = False
    posix._exit(0 if fine else 1)  # nothing is buffered, and Python takes its time to end


def start_git(*args: str) -> tuple[int, BinaryIO, BinaryIO]:
    """Starts git in this repository, quarantine and all: its process, output, standard input."""
    out, theirs_out = posix.pipe()
    theirs_in, into = posix.pipe()
    actions = [
        (posix.POSIX_SPAWN_DUP2, theirs_in, 0),
        (posix.POSIX_SPAWN_DUP2, theirs_out, 1),
        (posix.POSIX_SPAWN_OPEN, 2, "/dev/null", 1, 0),
    ]
    process = posix.posix_spawnp("git", ["git", *args], posix.environ, file_actions=actions)
    posix.close(theirs_out)
    posix.close(theirs_in)
    return process, open(out, "rb"), open(into, "wb", buffering=0)


def ask_git(*args: str) -> bytes:
    """What git prints.

    Raises:
        Odd: it failed.
    """
    process, out, into = start_git(*args)
    into.close()
    with out:
        said = out.read()
    if posix.waitpid(process, 0)[1]:
        raise Odd(args[0])
    return said


class Objects:
    """The objects of the repository, through one `git cat-file`; what is read is kept."""

    def __init__(self) -> None:
        _, self._out, self._into = start_git("cat-file", "--batch")
        self._known: dict[str, tuple[str, str, bytes] | None] = {}
        self._trees: dict[str, dict[str, tuple[str, str]]] = {}

    def load(self, names: list[str]) -> None:
        """Reads many objects in one go."""
        wanted = [n for n in dict.fromkeys(names) if n not in self._known]
        for at in range(0, len(wanted), 256):
            some = wanted[at : at + 256]
            self._into.write("".join(f"{name}\n" for name in some).encode())
            for name in some:
                head = self._out.readline().split()
                if len(head) != 3:
                    self._known[name] = None
                    continue
                data = self._out.read(int(head[2]) + 1)[:-1]
                self._known[name] = head[0].decode(), head[1].decode(), data

    def read(self, name: str, kind: str) -> bytes | None:
        """The content of an object of a kind; None where there is none."""
        self.load([name])
        found = self._known[name]
        return found[2] if found and found[1] == kind else None

    def tip(self, branch: str) -> str | None:
        """The commit that a branch is at, before the push."""
        if "\n" in branch or self.read(HEADS + branch, "commit") is None:
            return None
        found = self._known[HEADS + branch]
        return found[0] if found else None

    def commit(self, oid: str) -> tuple[str, list[str]]:
        """The tree and the parents of a commit."""
        data = self.read(oid, "commit")
        if data is None:
            raise Odd(oid)
        lines = data.partition(b"\n\n")[0].decode("latin-1").split("\n")
        parents = [line[7:] for line in lines[1:] if line.startswith("parent ")]
        return lines[0].removeprefix("tree "), parents

    def tree(self, oid: str) -> dict[str, tuple[str, str]]:
        """The entries of a tree: name to mode and object."""
        known = self._trees.get(oid)
        if known is not None:
            return known
        data = self.read(oid, "tree")
        if data is None:
            raise Odd(oid)
        found: dict[str, tuple[str, str]] = {}
        at, width = 0, len(oid) // 2
        while at < len(data):
            nul = data.index(b"\0", at)
            mode, _, name = data[at:nul].decode("utf-8", "surrogateescape").partition(" ")
            found[name] = mode, data[nul + 1 : nul + 1 + width].hex()
            at = nul + 1 + width
        self._trees[oid] = found
        return found

    def cards(self, commit: str) -> dict[str, tuple[str, str]]:
        """The folders and files of `.workstreams/` in a commit."""
        entry = self.tree(self.commit(commit)[0]).get(ROOT)
        if entry is None or entry[0] != "40000":
            raise Odd(ROOT)
        return self.tree(entry[1])

    def code_tree(self, commit: str) -> str:
        """The object id of a commit's root tree without `.workstreams/`."""
        oid = self.commit(commit)[0]
        data = self.read(oid, "tree")
        if data is None:
            raise Odd(oid)
        mark = b"40000 " + ROOT.encode() + b"\0"
        at = data.find(mark)  # no name and no object id before it can hold this: names end in NUL
        names = self.tree(oid)
        if ROOT in names:
            width = len(oid) // 2
            if at < 0 or data.count(mark) != 1:
                raise Odd(ROOT)
            data = data[:at] + data[at + len(mark) + width :]
        return hashed(b"tree %d\0" % len(data) + data, len(oid))


class Change:
    """A commit that the push brings: `paths` are those that differ from every parent."""

    __slots__ = ("parents", "paths")

    def __init__(self, parents: list[str]) -> None:
        self.parents = parents
        self.paths: list[tuple[list[str], str]] = []  # what `--raw` says, path


class Door:
    """What one push wants, and the plan that it is held against."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.objects = Objects()
        self.brought: dict[str, Change] = {}
        self.landed: list[str] = []  # trunk, before the push and after it
        self.trunk = ""
        self.streams: dict[str, tuple[list[str], str]] = {}  # folder: boundary, branch
        self.shared: list[str] = []
        self.rules = ""  # the commit whose plan counts

    def passes(self, given: str) -> bool:
        """Whether a push may pass, as far as can be told here."""
        moves: dict[str, tuple[str, str]] = {}
        for line in given.splitlines():
            old, new, ref = line.split(" ", 2)
            if not ref.startswith(HEADS) or ref == HEADS + "gitwaves/dashboard":
                continue
            if not new.strip("0"):
                return False
            moves[ref.removeprefix(HEADS)] = old, new
        if not moves:
            return True
        self._find_trunk(moves)
        self.streams = streams = self._streams()
        branches = {branch for _, branch in streams.values()}
        if not moves.keys() <= {*branches, self.trunk}:
            return False
        self.objects.load([HEADS + b for b in sorted(branches)])
        others = {b: tip for b in sorted(branches) if (tip := self.objects.tip(b)) is not None}
        if self.trunk in moves:  # last: what counts as landed is another then
            moves[self.trunk] = moves.pop(self.trunk)
        for name, (old, new) in moves.items():
            if name == self.trunk:
                self.landed = [old]  # what the push brings to trunk has yet to land
            known = [oid for branch, oid in others.items() if branch != name]
            known += [old] if old.strip("0") else []
            known += self.landed
            self.brought = commits(new, known)
            if name == self.trunk:
                if not self._trunk_line(new, old):
                    return False
            elif not self._worktree_line(name, streams, new, old):
                return False
        return True

    # --- the plan ------------------------------------------------------------------------------

    def _find_trunk(self, moves: dict[str, tuple[str, str]]) -> None:
        with open(f"{self.folder}/HEAD", "rb") as file:
            head = file.read().decode()
        with open(f"{self.folder}/config", "rb") as file:
            if b"gitwaves" in file.read():
                raise Odd("configured")
        self.trunk = head.removeprefix(f"ref: {HEADS}").rstrip("\n")
        tip = self.objects.tip(self.trunk)
        if tip is None:
            raise Odd(head)
        self.rules = moves[self.trunk][1] if self.trunk in moves else tip
        self.landed = [tip] if tip == self.rules else [tip, self.rules]
        for commit in self.landed:
            data = self._blob(self.objects.cards(commit), "config.yaml")
            if config_of(data)[0] != self.trunk:
                raise Odd("trunk")
        self.shared = config_of(self._blob(self.objects.cards(self.rules), "config.yaml"))[1]

    def _blob(self, entries: dict[str, tuple[str, str]], name: str) -> bytes:
        mode, oid = entries[name]
        data = self.objects.read(oid, "blob") if mode == "100644" else None
        if data is None:
            raise Odd(name)
        return data

    def _streams(self) -> dict[str, tuple[list[str], str]]:
        """Folder to boundary and branch, of every workstream of the plan."""
        root = self.objects.cards(self.rules)
        folders = {n: oid for n, (mode, oid) in root.items() if mode == "40000" and n != POINTS}
        self.objects.load(list(folders.values()))
        trees = {name: self.objects.tree(oid) for name, oid in folders.items()}
        self.objects.load([t["workstream.yaml"][1] for t in trees.values()])
        return {n: stream_of(self._blob(t, "workstream.yaml"), n) for n, t in trees.items()}

    # --- a worktree's branch -------------------------------------------------------------------

    def _worktree_line(
        self, branch: str, streams: dict[str, tuple[list[str], str]], new: str, old: str
    ) -> bool:
        own = {n for n, (_, b) in streams.items() if b == branch}
        inside = [p for n in sorted(own) for p in (streams[n][0] or ["**"])]
        allowed, shared = Covers(inside), Covers(self.shared)
        narrow = self._narrow(own)
        oid = new
        while oid in self.brought:
            change = self.brought[oid]
            for raw, path in change.paths:
                if path == ROOT or path.startswith(ROOT + "/"):
                    if len(change.paths) != 1 or len(change.parents) != 1:
                        return False
                    if not self._state(raw, path, own, change.parents[0]):
                        return False
                elif shared.covers(path):
                    continue
                elif not allowed.covers(path) or (
                    narrow and not self._inside(narrow, path, own, [*change.parents, oid])
                ):
                    return False
            if not change.parents or not all(self._merged(p) for p in change.parents[1:]):
                return False
            oid = change.parents[0]
        return oid == old or (not old.strip("0") and self._on_trunk(oid))

    def _narrow(self, own: set[str]) -> dict[str, Covers]:
        """The paths that cards of a branch state for themselves, by the names of the files."""
        root = self.objects.cards(self.rules)
        trees = [self.objects.tree(root[name][1]) for name in sorted(own)]
        files = {n: oid for t in trees for n, (_, oid) in t.items() if n != "workstream.yaml"}
        self.objects.load(list(files.values()))
        found = {n: paths_of(self.objects.read(oid, "blob")) for n, oid in files.items()}
        return {name: Covers(paths) for name, paths in found.items() if paths}

    def _inside(
        self, narrow: dict[str, Covers], path: str, own: set[str], commits: list[str]
    ) -> bool:
        """Whether the task that is at work in the first of some commits that has one may change a path."""
        for commit in commits:
            working = self._at_work(commit, own)
            if len(working) > 1:
                return False
            if working:
                return working[0] not in narrow or narrow[working[0]].covers(path)
        return True

    def _state(self, raw: list[str], path: str, own: set[str], parent: str) -> bool:
        """Whether a change of one card is a state commit of one of `own` folders."""
        parts = path.split("/")
        if len(parts) != 3 or parts[1] not in own or parts[2] == "workstream.yaml":
            return False
        if raw[:2] != [":100644", "100644"]:
            return False
        before = halves(self.objects.read(raw[2], "blob"))
        after = halves(self.objects.read(raw[3], "blob"))
        if before[0] != after[0]:
            return False
        said = tracking_of(after[1])
        if parts[2] != said.task + ".yaml":
            return False
        return said.status != "done" or self._proven(said.evidence, parent, path)

    def _proven(self, evidence: Evidence | None, parent: str, path: str) -> bool:
        """Whether a `done` is of the commit that it stands on, passed, and for trunk's spec."""
        return (
            evidence is not None
            and evidence.passed
            and evidence.commit == parent
            and evidence.tree == self.objects.code_tree(parent)
            and evidence.spec == self._digest(path)
        )

    def _digest(self, path: str) -> str:
        root = self.objects.cards(self.rules)
        _, folder, name = path.split("/")
        card = self._blob(self.objects.tree(root[folder][1]), name)
        if folder != POINTS:
            tree = self.objects.tree(root[folder][1])
            boundary = stream_of(self._blob(tree, "workstream.yaml"), folder)[0]
            return card_digest(card, boundary)

        def task_of(ident: str) -> bytes:
            trees = [self.objects.tree(root[name][1]) for name in self.streams if name in root]
            (tree,) = (tree for tree in trees if f"{ident}.yaml" in tree)
            return self._blob(tree, f"{ident}.yaml")

        return card_digest(card, [], task_of)

    # --- what merges bring ---------------------------------------------------------------------

    def _on_trunk(self, oid: str) -> bool:
        if oid in self.landed:
            return True
        return ask_git("rev-list", "-1", oid, "--not", *self.landed) == b""

    def _merged(self, parent: str) -> bool:
        """Whether a merge may bring what a commit has: it is on trunk, or is a done commit."""
        if parent in self.brought:
            return False
        return parent in self.landed or self._done(parent) or self._on_trunk(parent)

    def _done(self, commit: str) -> bool:
        """Whether a commit that the server has records a task as done, with nothing else at work."""
        objects = self.objects
        parents = objects.commit(commit)[1]
        if len(parents) != 1 or objects.code_tree(commit) != objects.code_tree(parents[0]):
            return False
        now, was = objects.cards(commit), objects.cards(parents[0])
        folders = [n for n in {*now, *was} if now.get(n) != was.get(n)]
        if len(folders) != 1 or folders[0] not in self.streams:
            return False
        (folder,) = folders
        if now.get(folder, ("", ""))[0] != "40000" or was.get(folder, ("", ""))[0] != "40000":
            return False
        tree, before = objects.tree(now[folder][1]), objects.tree(was[folder][1])
        files = [n for n in {*tree, *before} if tree.get(n) != before.get(n)]
        if len(files) != 1 or files[0] == "workstream.yaml":
            return False
        said = tracking_of(halves(self._blob(tree, files[0]))[1])
        evidence = said.evidence
        if said.status != "done" or evidence is None or files[0] != said.task + ".yaml":
            return False
        if evidence.commit != parents[0] or evidence.tree != objects.code_tree(commit):
            return False
        return self._idle(commit, folder)

    def _idle(self, commit: str, folder: str) -> bool:
        """Whether no card of a folder's branch is at work in a commit."""
        branch = self.streams[folder][1]
        return not self._at_work(commit, {n for n, (_, b) in self.streams.items() if b == branch})

    def _at_work(self, commit: str, own: set[str]) -> list[str]:
        """The files of the cards in some folders that are active or failed in a commit."""
        root = self.objects.cards(commit)
        found = []
        for name in sorted(own & root.keys()):
            tree = self.objects.tree(root[name][1])
            self.objects.load([oid for _, oid in tree.values()])
            for file, (_, oid) in tree.items():
                if file == "workstream.yaml":
                    continue
                half = halves(self.objects.read(oid, "blob"))[1].split(b"\n")
                said = [line for line in half if line.lstrip().startswith(b"status")]
                if said in ([b"  status: active"], [b"  status: failed"]):
                    found.append(file)
                elif said not in ([b"  status: planned"], [b"  status: done"]):
                    raise Odd(file)
        return found

    # --- trunk ---------------------------------------------------------------------------------

    def _trunk_line(self, new: str, old: str) -> bool:
        lines = [new]
        for start in lines:  # grows while it is walked
            oid = start
            while oid in self.brought:
                change = self.brought[oid]
                if not change.parents or not self._reviewed(change):
                    return False
                for parent in change.parents[1:]:
                    if parent not in self.brought:
                        if not self._merged(parent):
                            return False
                    elif self._records_point(parent):
                        lines.append(parent)
                    else:
                        return False
                oid = change.parents[0]
            if oid != old and (start == new or not self._on_trunk(oid)):
                return False
        return True

    def _reviewed(self, change: Change) -> bool:
        """Whether a commit on trunk leaves tracking alone, but for a merge point's done commit."""
        for raw, path in change.paths:
            parts = path.split("/")
            if parts[0] != ROOT or path == f"{ROOT}/DASHBOARD.txt":
                continue
            if len(parts) < 3 and parts[-1] in {"config.yaml", ".gitattributes"}:
                continue
            if len(parts) != 3 or len(change.parents) != 1 or raw[1] != "100644":
                return False
            if parts[2] == "workstream.yaml" or not parts[2].endswith(".yaml"):
                return False
            if not self._card_on_trunk(raw, path, change):
                return False
        return True

    def _card_on_trunk(self, raw: list[str], path: str, change: Change) -> bool:
        after = halves(self.objects.read(raw[3], "blob"))
        was = after[0], b""
        if raw[2].strip("0"):
            was = halves(self.objects.read(raw[2], "blob"))
            if was[1] == after[1]:
                return True
        said = tracking_of(after[1])
        if path.split("/")[2] != said.task + ".yaml":
            return False
        if said.status == "planned" and said.bare:
            return True
        if path.split("/")[1] != POINTS or said.status != "done":
            return False
        return self._proven(said.evidence, change.parents[0], path)

    def _records_point(self, commit: str) -> bool:
        """Whether a commit is the one that a landing rests on: a merge point's done commit."""
        change = self.brought[commit]
        return len(change.paths) == 1 and change.paths[0][1].startswith(f"{ROOT}/{POINTS}/")


def commits(new: str, known: list[str]) -> dict[str, Change]:
    """The commits that `new` has and `known` have not, each with the paths that it changed itself."""
    args = ["-c", "log.showRoot=true", "log", "-z", "--raw", "--no-abbrev", "--no-renames", "-c"]
    args += ["--no-show-signature", "--ignore-submodules=none", "--no-color", "--format=%H %P"]
    said = ask_git(*args, new, "--not", *dict.fromkeys(known), "--")
    parts = iter(said.decode("utf-8", "surrogateescape").split("\0"))
    found: dict[str, Change] = {}
    change: Change | None = None
    for part in parts:
        text = part.removeprefix("\n")
        if text.startswith(":"):
            if change is None:
                raise Odd(text)
            change.paths.append((text.split(" "), next(parts)))
        elif text:
            oid, *parents = text.split(" ")
            change = found[oid] = Change([p for p in parents if p])
    return found
