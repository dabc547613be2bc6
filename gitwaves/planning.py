"""Setting up a plan: `init` and `import`, which write to the working tree for review."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gitwaves import hooks
from gitwaves.cards import load_cards, load_config
from gitwaves.clients import MEMORY
from gitwaves.design_doc import parse
from gitwaves.errors import GitwavesError, NotReady, Refused
from gitwaves.files import write_file
from gitwaves.git import Repo, admin_dir
from gitwaves.graph import graph_of
from gitwaves.importing import Import, reimport
from gitwaves.model import (
    CONFIG_PATH,
    DASHBOARD_PATH,
    ROOT,
    Branch,
    Cards,
    Config,
    Oid,
    Status,
    natural,
    printable,
)
from gitwaves.plan import progress, schedule
from gitwaves.record import Record
from gitwaves.render import dashboard
from gitwaves.store import Store
from gitwaves.yamledit import dump, edited

MAX_DOC = 2 << 20  # bytes
CONFIG_ORDER = (
    "version", "title", "trunk", "agents", "agent", "design", "batches", "worktrees", "profiles"
)  # fmt: skip


class Initialised(Record):
    """What `init` did, a line each, and what stands in the way of the hooks."""

    said: tuple[str, ...]
    hooks_refused: GitwavesError | None = None


def init(
    repo: Repo,
    *,
    title: str | None = None,
    trunk: str | None = None,
    agents: int = 8,
    agent: str = "claude",
    with_hooks: bool = True,
) -> Initialised:
    """Writes `.workstreams/` to the working tree and installs the hooks; twice is as good as once.

    Raises:
        GitwavesError: a bare repository, or a trunk that does not exist.
    """
    top = _require_top(repo)
    Store(repo).require_in_reach()
    _require_no_link(top, CONFIG_PATH)
    said: list[str] = []
    existing = top / CONFIG_PATH
    if existing.is_file():
        config, findings = load_config(existing.read_bytes(), CONFIG_PATH)
        if findings:
            raise GitwavesError(
                str(findings[0]), f"mend {CONFIG_PATH}, then run `gitwaves init` again"
            )
        branch = config.trunk if trunk is None else trunk
    else:
        branch = _trunk_of(repo) if trunk is None else trunk
    _require_branch(repo, Branch(branch))
    memory = MEMORY.get(agent, Config().learnings[0])
    files: dict[str, bytes] = {
        CONFIG_PATH: dump(
            {
                "version": 1,
                "title": title or _title(repo, top),
                "trunk": branch,
                "agents": agents,
                "agent": agent,
                # what is learned goes where that client reads it; CLAUDE.md needs no saying
                **({"learnings": [memory]} if memory not in Config().learnings else {}),
            }
        ),
        f"{ROOT}/.gitattributes": b"* -text\n*.yaml diff=gitwaves\n",
    }
    for path, data in files.items():
        if not (top / path).exists():
            write_in(top, path, data)
            said.append(f"wrote {path}")
    cards = load_cards({p: (top / p).read_bytes() for p in [CONFIG_PATH]})
    if not (top / DASHBOARD_PATH).exists():
        write_in(top, DASHBOARD_PATH, first_dashboard(cards))
        said.append(f"wrote {DASHBOARD_PATH}")
    repo.git("config", "gitwaves.trunk", branch)
    refused: GitwavesError | None = None
    if with_hooks:
        try:
            said += hooks.install(repo)
        except Refused as error:
            refused = error
    return Initialised(tuple(said), refused)


def first_dashboard(cards: Cards) -> bytes:
    """The dashboard of a plan of which nothing is begun."""
    graph = graph_of(cards)
    return dashboard(progress(cards, graph, schedule(cards, graph), {})).encode("ascii")


def _require_top(repo: Repo) -> Path:
    if repo.top is None:
        raise GitwavesError("this is a bare repository", "run this in one of its worktrees")
    return repo.top


def _trunk_of(repo: Repo) -> str:
    """The branch that the main worktree is on; in a bare or detached one, main or master."""
    done = repo.try_git("symbolic-ref", "-q", "--short", "HEAD")
    if done.returncode == 0:
        return done.stdout.decode(errors="replace").strip()
    for name in ("main", "master"):
        if repo.branch(Branch(name)):
            return name
    raise GitwavesError(
        "HEAD is detached, so trunk cannot be guessed", "say `gitwaves init --trunk NAME`"
    )


def _require_branch(repo: Repo, branch: Branch) -> None:
    unborn = not repo.refs("refs/heads")
    remote = any(n.split("/", 3)[-1] == branch for n in repo.refs("refs/remotes"))
    if not unborn and repo.branch(branch) is None and not remote:
        known = sorted(n.removeprefix("refs/heads/") for n in repo.refs("refs/heads"))
        raise GitwavesError(
            f"there is no branch {branch!r}", f"the branches are: {', '.join(known[:8])}"
        )


def _title(repo: Repo, top: Path) -> str:
    name = top.name if repo.common.name != ".git" else repo.common.parent.name
    return name.replace("-", " ").replace("_", " ").strip().capitalize() or "Plan"


def import_doc(store: Store, doc: Path, *, draft: bool = False) -> Import:
    """Cuts cards from a design doc, or merges its changes into those that stand; writes them.

    Raises:
        NotReady: there is no plan to import into.
        Refused: the doc is not committed on trunk as it stands (`--draft` takes it all the same).
        GitwavesError: no such file, no task list in it, or nothing but bad ids.
    """
    repo = store.repo
    top = _require_top(repo)
    store.require_in_reach()
    _require_no_link(top, CONFIG_PATH)
    if not (top / CONFIG_PATH).is_file():
        raise NotReady("there is no .workstreams/ here", "run `gitwaves init` first")
    try:
        path = doc.resolve().relative_to(top.resolve()).as_posix()
    except ValueError:
        raise GitwavesError(
            f"{doc} is not in this repository", f"copy it below {top} and commit it"
        ) from None
    data = _doc_bytes(doc)
    files, _ = store.working_files()
    config, findings = load_config(files[CONFIG_PATH], CONFIG_PATH)
    if any(f.severity == "error" for f in findings):
        raise GitwavesError(str(findings[0]), f"mend {CONFIG_PATH} first")
    if not draft:
        data = _committed(repo, config.trunk, path, data)
    blob = Oid(repo.git("hash-object", "-w", "--stdin", "--no-filters", stdin=data))
    old = None
    if config.design_path == path and config.design_blob:
        before = repo.blob(config.design_blob)
        old = parse(_text(before), path) if before is not None else None
    new = parse(_text(data), path)
    result = reimport(old, new, files, _begun(store), trunk=config.trunk)
    changes: dict[str, object] = {"design": {"path": path, "blob": blob}}
    if new.batches and list(config.batches) != list(new.batches) and not _natural(new.batches):
        changes["batches"] = list(new.batches)
    if new.title and config.design_path is None and config.title in {"", _title(repo, top)}:
        changes["title"] = new.title  # nobody chose the one that `init` made up
    written: dict[str, bytes] = dict(result.files)
    if config.design_path != path or config.design_blob != blob:
        written[CONFIG_PATH] = edited(files[CONFIG_PATH], changes, CONFIG_ORDER)
    _require_readable(result.files)
    for name, content in sorted(written.items()):
        if name != CONFIG_PATH:
            write_in(top, name, content)
    for name in result.deleted:
        (top / name).unlink(missing_ok=True)
    if CONFIG_PATH in written:
        # last: what it says is imported is there, else the next import goes on where a kill stopped
        write_in(top, CONFIG_PATH, written[CONFIG_PATH])
    conflicts = tuple(sorted({*result.conflicts, *new.findings}))
    return Import(result.files, result.report, conflicts, result.deleted)


def _doc_bytes(doc: Path) -> bytes:
    """The bytes of a design doc.

    Raises:
        GitwavesError: it is no file, cannot be read, or is larger than a person could have approved.
    """
    try:
        if not doc.is_file():
            raise GitwavesError(f"there is no file {doc}", "name a Markdown file")
        size = doc.stat().st_size
        if size > MAX_DOC:
            raise GitwavesError(
                f"{doc} holds {size >> 10} KiB, more than the {MAX_DOC >> 10} KiB of a design doc",
                "name the document that the tasks stand in",
            )
        return doc.read_bytes()
    except OSError as error:
        raise GitwavesError(
            f"cannot read {doc}: {error.strerror}", "make it yours and readable"
        ) from None


def _text(data: bytes) -> str:
    return data.decode(errors="replace").replace("\0", "\ufffd")  # as CommonMark wants it


def _require_readable(files: Mapping[str, bytes]) -> None:
    """Raises where a card would be written that nothing reads again.

    Raises:
        Refused: names the card and what is wrong with it.
    """
    for finding in load_cards(files).findings:
        if finding.severity == "error":
            raise Refused(
                f"this would write {finding.path}, in which: {printable(finding.message)}",
                "shorten or mend what the doc says of it",
            )


def _natural(batches: tuple[str, ...]) -> bool:
    return list(batches) == sorted(batches, key=natural)


def _committed(repo: Repo, trunk: Branch, path: str, data: bytes) -> bytes:
    """The doc as it is committed: a checkout may have other line ends.

    Raises:
        Refused: it is not committed on trunk as it stands in the working tree.
    """
    tip = repo.resolve(f"refs/heads/{trunk}")
    committed = repo.read(tip, path) if tip else None
    if committed is None or committed.replace(b"\r\n", b"\n") != data.replace(b"\r\n", b"\n"):
        what = "is not committed" if committed is None else "is not what is committed"
        raise Refused(
            f"{path} {what} on {trunk}",
            f"commit it there first, or try it with `gitwaves import {path} --draft`",
        )
    return committed


def _begun(store: Store) -> set[str]:
    try:
        snapshot = store.snapshot()
    except NotReady:
        return set()
    return {n for n, f in snapshot.facts.items() if f.tracking.status is not Status.PLANNED}


def write_in(top: Path, path: str, data: bytes) -> None:
    """Writes a file of the working tree, whole or not at all, and never through a link.

    Raises:
        Refused: a symbolic link is in the way.
    """
    _require_no_link(top, path)
    target = top / path
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, data, scratch=admin_dir(top))  # a kill leaves nothing in anybody's way
    target.chmod(0o644)


def _require_no_link(top: Path, path: str) -> None:
    target = top / path
    for parent in [*target.parents][: len(Path(path).parents) - 1]:
        if parent.is_symlink():
            raise Refused(
                f"{parent} is a symbolic link", "replace it by a folder; links are not followed"
            )
    if target.is_symlink():
        raise Refused(
            f"{target} is a symbolic link", "replace it by a file; links are not followed"
        )


def counts(files: Mapping[str, bytes]) -> str:
    """How many cards an import wrote, in words."""
    cards = sum(not p.endswith("workstream.yaml") and "/merge-points/" not in p for p in files)
    points = sum("/merge-points/" in p for p in files)
    streams = sum(p.endswith("workstream.yaml") for p in files)
    parts = {"task": cards, "workstream": streams, "merge point": points}
    return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for word, n in parts.items() if n)
