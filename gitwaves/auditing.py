"""`audit`: every piece of evidence held against history, and its steps run again."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from enum import StrEnum
from pathlib import Path

from gitwaves.cards import card_path
from gitwaves.errors import GitwavesError, NotReady
from gitwaves.model import (
    Cards,
    Evidence,
    Fact,
    Oid,
    Run,
    Status,
    Step,
    TaskId,
    Verdict,
    natural,
)
from gitwaves.record import Record, replace
from gitwaves.state import misfit
from gitwaves.steps import run_steps
from gitwaves.store import Snapshot, Store, unknown
from gitwaves.trust import require_steps
from gitwaves.worktrees import folder_for, scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Outcome(StrEnum):
    """What one piece of evidence came to."""

    HOLDS = "holds"
    FALSE = "does not hold"
    UNCHECKABLE = "not checkable here"


class Rerun(Record):
    """The steps of a piece of evidence, run again."""

    commit: Oid  # that was checked out
    runs: tuple[Run, ...] = ()
    recorded: tuple[int | None, ...] = ()  # the exit codes that the evidence has for them
    log: Path | None = None
    error: str = ""  # why they could not be run


class Audited(Record):
    """A done task or landed merge point, and what its evidence came to.

    `state` is what `status` makes of it: done, stale or unproven. `reason` says why it does not
    hold or cannot be checked; `notes` what else is worth knowing.
    """

    id: str
    outcome: Outcome
    state: str
    landed: bool
    evidence: Evidence | None
    reason: str = ""
    notes: tuple[str, ...] = ()
    signer: str | None = None  # where trunk asks for signatures
    rerun: Rerun | None = None

    @property
    def bad(self) -> bool:
        """Whether it makes `audit` fail: it does not hold, or could not be run when asked to."""
        return self.outcome is Outcome.FALSE or bool(self.rerun and self.rerun.error)


# --- against history ---------------------------------------------------------------------------


def audit(store: Store, snapshot: Snapshot, names: Sequence[str] = ()) -> tuple[Audited, ...]:
    """Holds the evidence of `names` against history; without names, all there is. Runs nothing.

    Raises:
        UsageError: no task or merge point has that name.
        NotReady: one that was named claims nothing.
    """
    cards = snapshot.cards
    nodes = [*sorted(cards.tasks, key=natural), *sorted(cards.merge_points, key=natural)]
    claimed = [str(n) for n in nodes if _claims(snapshot.facts.get(n))]
    for name in names:
        if name not in nodes:
            known = {str(node): node for node in nodes}
            raise unknown("task or merge point", name, known)
        if name not in claimed:
            raise NotReady(
                f"{name} does not claim to be done: it has nothing to audit",
                f"`gitwaves show {name}` says what it is",
            )
    chosen = [n for n in claimed if not names or n in names]
    history = _History(store, snapshot, chosen)
    return tuple(history.weigh(node) for node in chosen)


def _claims(fact: Fact | None) -> bool:
    return fact is not None and (fact.tracking.status is Status.DONE or fact.misplaced)


class _History:
    """What history says of some nodes' evidence, read at once."""

    def __init__(self, store: Store, snapshot: Snapshot, nodes: Sequence[str]) -> None:
        self.store, self.snapshot, self.cards = store, snapshot, snapshot.cards
        self.repo = store.repo
        self.shallow = store.repo.is_shallow()
        evidence = [e for n in nodes if (e := snapshot.facts[n].tracking.evidence) is not None]
        wanted = {e.commit for e in evidence}
        self.off_trunk = self.repo.missing_from(wanted, [snapshot.trunk_tip]) if wanted else set()
        tips = [snapshot.trunk_tip, *snapshot.tips.values()]
        self.children = self.repo.children(wanted, tips) if wanted else {}

    def weigh(self, node: str) -> Audited:
        """The outcome of one task's or merge point's evidence."""
        fact = self.snapshot.facts[node]
        evidence = fact.tracking.evidence
        state = {Verdict.STALE: "stale", Verdict.UNPROVEN: "unproven"}.get(fact.verdict, "done")
        state = "unproven" if fact.misplaced else state
        found = Audited(node, Outcome.HOLDS, state, fact.landed, evidence, signer=fact.signer)
        if fact.misplaced or evidence is None or fact.verdict is Verdict.NONE:
            return replace(found, outcome=Outcome.FALSE, reason=fact.reason)
        here = self.repo.commit(evidence.commit) is not None
        if reason := self._false(node, fact, evidence, here):
            if self.shallow and not here and not fact.landed:
                return replace(found, outcome=Outcome.UNCHECKABLE, reason=_SHALLOW)
            return replace(found, outcome=Outcome.FALSE, reason=reason)
        notes = self._notes(fact)
        if fact.landed and evidence.commit in self.off_trunk:
            why = _SHALLOW if self.shallow else _SQUASHED.format(trunk=self.snapshot.trunk)
            return replace(found, outcome=Outcome.UNCHECKABLE, reason=why, notes=notes)
        if reason := self._misshapen(node, fact, evidence):
            return replace(found, outcome=Outcome.FALSE, reason=reason, notes=notes)
        return replace(found, notes=notes)

    def _false(self, node: str, fact: Fact, evidence: Evidence, here: bool) -> str:
        """What of a record is not so, whatever way it came here; empty where nothing is."""
        if fact.verdict is Verdict.UNPROVEN:
            return fact.reason
        if fact.verdict is Verdict.STALE:
            if not fact.landed:
                return fact.reason  # it is still to land, and may not
            then = self._spec_then(node, evidence)
            if then is None:
                return f"its spec digest was not that of {self.snapshot.trunk} when it landed"
            return misfit(evidence.runs, then)
        if here and node in self.cards.tasks:
            produces = self.cards.tasks[TaskId(node)].produces
            absent = [p for p in produces if self.repo.at(evidence.commit, p.rstrip("/")) is None]
            if absent:
                return f"the verified commit does not hold {', '.join(absent)}"
        return ""

    def _spec_then(self, node: str, evidence: Evidence) -> tuple[Step, ...] | None:
        """The steps that trunk's card had when evidence landed; None if its spec was another."""
        landing = self.landing(node, evidence)
        if landing is None:
            return None
        for commit in (landing, *self.repo.require_commit(landing).parents[:1]):
            steps = self.store.spec_at(commit, node, evidence.spec)
            if steps is not None:
                return steps
        return None

    def landing(self, node: str, evidence: Evidence) -> Oid | None:
        """The commit of trunk's own line that put evidence there; the last that did."""
        path = card_path(self.cards, node)
        found: Oid | None = None
        for oid in self.repo.rev_list("--first-parent", self.snapshot.trunk_tip, paths=[path]):
            said = self.store.tracking_at(self.cards, oid, node)
            if said is None or said.evidence != evidence:
                break
            found = oid
        return found

    def _misshapen(self, node: str, fact: Fact, evidence: Evidence) -> str:
        """What is wrong with how evidence stands in history; empty where nothing is."""
        if self._done_commit(node, evidence) is None:
            short = evidence.commit[:10]
            return f"no done commit stands on {short}: one that changes its card and nothing else"
        if evidence.inputs:
            landing = fact.commit or self.landing(node, evidence)
            lost = self.repo.missing_from(evidence.inputs, [landing] if landing else [])
            if lost and not self.shallow:
                shown = ", ".join(oid[:10] for oid in sorted(lost))
                return f"it says that it took {shown}, which what landed does not contain"
        return ""

    def _done_commit(self, node: str, evidence: Evidence) -> Oid | None:
        path = card_path(self.cards, node)
        for oid in self.children.get(evidence.commit, ()):
            alone = self.repo.require_commit(oid).parents == (evidence.commit,)
            if alone and self.repo.differ_only_at(evidence.commit, oid, path):
                said = self.store.tracking_at(self.cards, oid, node)
                if said and said.status is Status.DONE and said.evidence == evidence:
                    return oid
        return None

    def _notes(self, fact: Fact) -> tuple[str, ...]:
        evidence, claim = fact.tracking.evidence, fact.tracking.claim
        notes = [f"signed by {fact.signer}"] if fact.signer else []
        if fact.verdict is Verdict.STALE:
            notes.append("the spec changed since it landed")
        if evidence and claim and claim.tree == evidence.tree:
            notes.append("nothing was changed for it")
        return tuple(notes)


_SHALLOW = "this clone is shallow: what it was verified on is not here"
_SQUASHED = (
    "what it was verified on is not in the history of {trunk}: landed by a squash or a rebase"
)


# --- again -------------------------------------------------------------------------------------

Tick = Callable[[Audited | None, tuple[str, ...]], None]


def cores() -> int:
    """How many processes can run at once here."""
    with contextlib.suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def rerun(
    store: Store,
    snapshot: Snapshot,
    found: Sequence[Audited],
    *,
    jobs: int,
    trust_trunk: bool = False,
    tick: Tick = lambda _ended, _running: None,
) -> tuple[Audited, ...]:
    """Runs the steps of evidence again, trunk's copy, each in a clean checkout of its commit.

    Where that commit is not here, the one of trunk's that landed it stands in. What is stale, or
    has nothing that could be checked out, is left as it is. `tick` is told of each that ended, and
    of what runs now.

    Raises:
        Untrusted: a step is not trusted in this clone; nothing was run.
        KeyboardInterrupt: after all that ran was stopped and the checkouts were removed.
    """
    again = _Again(store, snapshot, trust_trunk=trust_trunk)
    todo = [a for a in found if again.commit_for(a) is not None]
    again.require_trust(todo)
    results: dict[str, Audited] = {}
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        futures = [pool.submit(again.run, audited) for audited in todo]
        try:
            left = set(futures)
            while left:
                ready, left = wait(left, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in ready:
                    ended = future.result()
                    results[ended.id] = ended
                    tick(ended, again.running())
                tick(None, again.running())
        except BaseException:
            again.cancel.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return tuple(results.get(a.id, again.left_out(a)) for a in found)


class _Again:
    """The running of steps again, from many threads."""

    def __init__(self, store: Store, snapshot: Snapshot, *, trust_trunk: bool) -> None:
        self.store, self.snapshot, self.cards = store, snapshot, snapshot.cards
        self.repo = store.repo
        self.cancel = threading.Event()
        self._trust_trunk = trust_trunk
        self._running: dict[str, float] = {}
        self._history = _History(store, snapshot, ())

    def commit_for(self, audited: Audited) -> Oid | None:
        """The commit to check out for a piece of evidence; None where it is not run again."""
        evidence = audited.evidence
        if evidence is None or audited.state == "stale" or not self._steps(audited):
            return None
        if self.repo.commit(evidence.commit) is not None:
            return evidence.commit
        return self._history.landing(audited.id, evidence) if audited.landed else None

    def left_out(self, audited: Audited) -> Audited:
        """One that was not run again, with a note that says why."""
        if audited.state == "stale":
            note = f"not run again: `gitwaves verify {audited.id}` does"
        elif audited.evidence is not None and not self._steps(audited):
            note = "not run again: only a person can confirm its steps"
        else:
            note = "not run again: there is no commit to check out"
        return replace(audited, notes=(*audited.notes, note))

    def _steps(self, audited: Audited) -> list[tuple[Step, int | None]]:
        """The steps that can be run, each with the exit code that is recorded for it."""
        steps = self.cards.steps_of(audited.id)
        runs = audited.evidence.runs if audited.evidence else ()
        exits = [runs[i].exit if i < len(runs) else None for i in range(len(steps))]
        return [(s, code) for s, code in zip(steps, exits, strict=True) if s.run is not None]

    def require_trust(self, todo: Sequence[Audited]) -> None:
        nodes = [audited.id for audited in todo]
        trusting = self._trust_trunk
        require_steps(self.repo, self.cards, nodes, setup=bool(nodes), trust_trunk=trusting)

    def running(self) -> tuple[str, ...]:
        """What runs now, the longest first."""
        return tuple(sorted(dict(self._running), key=lambda name: self._running.get(name, 0.0)))

    def run(self, audited: Audited) -> Audited:
        """One piece of evidence with its steps run again."""
        commit = self.commit_for(audited)
        assert commit is not None
        if self.cancel.is_set():
            return audited
        self._running[audited.id] = time.monotonic()
        try:
            path = folder_for(self.repo, self.cards, f"audit-{audited.id}")
            with scratch(self.repo, path, commit) as checkout:
                return self._run(audited, commit, checkout)
        except GitwavesError as error:
            return self._could_not(audited, Rerun(commit, error=error.message))
        finally:
            del self._running[audited.id]

    def _run(self, audited: Audited, commit: Oid, checkout: Path) -> Audited:
        log = self.repo.state_dir / "logs" / audited.id / "audit.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        setup = run_steps(self.cards.config.setup, checkout, log, cancel=self.cancel)
        if setup.failed is not None:
            said = f"setup step {setup.failed} failed with exit {setup.exit}; see {log}"
            return self._could_not(audited, Rerun(commit, log=log, error=said))
        steps = self._steps(audited)
        outcome = run_steps([s for s, _ in steps], checkout, log, cancel=self.cancel)
        recorded = tuple(code for _, code in steps)
        again = Rerun(commit, outcome.runs, recorded, log)
        changed = self.repo.paths("diff", "--name-only", "-z", "HEAD", cwd=checkout)
        if outcome.failed is not None:
            step = steps[outcome.failed - 1][0]
            reason = f"`{step.run}` exits {outcome.exit} on {commit[:10]}"
        elif changed:
            reason = f"its steps change {', '.join(changed[:5])}"
        else:
            return self._passed(audited, again, steps)
        if audited.outcome is Outcome.FALSE:
            return replace(audited, rerun=again, notes=(*audited.notes, reason))
        own = audited.evidence is not None and audited.evidence.commit == commit
        if not own and self.repo.is_shallow():
            # what stands in may be any later commit of trunk, which need not pass
            reason = f"{_SHALLOW}; {reason}, which stood in"
            return replace(audited, rerun=again, reason=reason)
        return replace(audited, outcome=Outcome.FALSE, rerun=again, reason=reason)

    def _passed(
        self, audited: Audited, again: Rerun, steps: Sequence[tuple[Step, int | None]]
    ) -> Audited:
        others = [
            f"`{step.run}` exits 0 now, and {'nothing' if code is None else code} is recorded"
            for step, code in steps
            if code != 0
        ]
        notes = (*audited.notes, *others)
        if audited.outcome is not Outcome.UNCHECKABLE:
            return replace(audited, rerun=again, notes=notes)
        notes = (*notes, f"run again on {again.commit[:10]}; {audited.reason}")
        return replace(audited, outcome=Outcome.HOLDS, reason="", notes=notes, rerun=again)

    def _could_not(self, audited: Audited, again: Rerun) -> Audited:
        if audited.outcome is Outcome.FALSE:
            return replace(audited, rerun=again)
        reason = f"could not be run again: {again.error}"
        return replace(audited, outcome=Outcome.UNCHECKABLE, reason=reason, rerun=again)


# --- shown -------------------------------------------------------------------------------------


def line_of(audited: Audited, widths: tuple[int, int] = (0, 0)) -> str:
    """One piece of evidence in a line: id, outcome, and why."""
    state = f" ({audited.state})" if audited.state != "done" else ""
    why = "; ".join(part for part in (audited.reason, *audited.notes) if part)
    row = f"{audited.id:<{widths[0]}}  {audited.outcome + state:<{widths[1]}}"
    return f"{row}  {why}".rstrip()


def text_of(found: Sequence[Audited]) -> str:
    """All of it as a table, and how many there are of each outcome."""
    if not found:
        return "nothing claims to be done: there is no evidence to audit\n"
    ids = max(len(a.id) for a in found)
    outcomes = max(len(a.outcome + (f" ({a.state})" if a.state != "done" else "")) for a in found)
    lines = [line_of(a, (ids, outcomes)) for a in found]
    counts = _counts(found)
    hold = f"{counts['holds']} hold{'s' if counts['holds'] == 1 else ''}"
    parts = [hold]
    if number := counts["does not hold"]:
        parts.append(f"{number} do{'es' if number == 1 else ''} not hold")
    if number := counts["not checkable here"]:
        parts.append(f"{number} not checkable here")
    return "\n".join([*lines, "", ", ".join(parts)]) + "\n"


def _counts(found: Sequence[Audited]) -> Mapping[str, int]:
    return {str(o): sum(a.outcome is o for a in found) for o in Outcome}


def json_of(snapshot: Snapshot, found: Sequence[Audited]) -> dict[str, Any]:
    """What `audit --json` prints, as `schemas/audit.schema.json` documents it."""
    counts = _counts(found)
    return {
        "version": 1,
        "trunk": {"branch": snapshot.trunk, "commit": snapshot.trunk_tip},
        "counts": {
            "holds": counts["holds"],
            "does_not_hold": counts["does not hold"],
            "not_checkable": counts["not checkable here"],
        },
        "evidence": [_json(snapshot.cards, audited) for audited in found],
    }


def _json(cards: Cards, audited: Audited) -> dict[str, Any]:
    evidence, again = audited.evidence, audited.rerun
    return {
        "id": audited.id,
        "kind": "task" if audited.id in cards.tasks else "merge_point",
        "outcome": audited.outcome.value.removesuffix(" here").replace(" ", "_"),
        "state": audited.state,
        "reason": audited.reason or None,
        "notes": list(audited.notes),
        "landed": audited.landed,
        "commit": evidence.commit if evidence else None,
        "tree": evidence.tree if evidence else None,
        "signer": audited.signer,
        "rerun": again
        and {
            "commit": again.commit,
            "error": again.error or None,
            "log": str(again.log) if again.log else None,
            "steps": [
                {"run": r.run, "exit": r.exit, "recorded": code, "seconds": r.seconds}
                for r, code in zip(again.runs, again.recorded, strict=False)
            ],
        },
    }
