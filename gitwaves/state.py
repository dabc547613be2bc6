"""Reading state: which tracking counts, and what its evidence is worth. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from gitwaves.model import Fact, Gap, Lazy, Oid, Run, State, Status, Step, Tracking, Verdict
from gitwaves.record import Record, replace


class Facts(Lazy[str, Fact]):
    """Facts by the id of a task or merge point, and what can be told of them without making any.

    Attributes:
        begun: what is over or at work, with its state.
        noted: what has learnings or spec gaps.
        untold: what trunk's cards alone do not tell; all that has not landed is in it.
    """

    def __init__(
        self,
        ids: Iterable[str],
        make: Callable[[str], Fact],
        begun: Mapping[str, State],
        noted: Collection[str],
        untold: Collection[str],
    ) -> None:
        super().__init__(ids, make)
        self.begun = begun
        self.noted = noted
        self.untold = untold

    @classmethod
    def of(cls, facts: Mapping[str, Fact]) -> Facts:
        """Facts that are all made."""
        if isinstance(facts, Facts):
            return facts
        begun = {node: state for node, fact in facts.items() if (state := standing(fact))}
        noted = [node for node, fact in facts.items() if notes(fact)]
        return cls(facts, facts.__getitem__, begun, noted, facts.keys())

    def with_others(self, others: Mapping[str, Fact]) -> Facts:
        """These facts, but for some that are given."""
        if not others:
            return self
        said = {node: standing(fact) for node, fact in others.items()}
        begun = {node: state for node, state in self.begun.items() if node not in others}
        begun |= {node: state for node, state in said.items() if state}

        def make(node: str) -> Fact:
            return others[node] if node in others else self[node]

        return Facts(self, make, begun, self.noted, {*self.untold, *others})


def notes(fact: Fact) -> bool:
    """Whether a fact has learnings or spec gaps."""
    return bool(fact.tracking.learnings or fact.tracking.spec_gaps)


def standing(fact: Fact) -> State | None:
    """The state of what is over or at work; None where it has yet to start."""
    if fact.misplaced or fact.verdict is Verdict.UNPROVEN:
        return State.UNPROVEN
    if fact.verdict is Verdict.STALE:
        return State.STALE
    if fact.tracking.status is Status.DONE:  # never without evidence
        return State.UNPROVEN if fact.verdict is Verdict.NONE else State.DONE
    return {Status.ACTIVE: State.ACTIVE, Status.FAILED: State.FAILED}.get(fact.tracking.status)


class Seen(Record):
    """What history says of an evidence commit: `tree` is its code tree, None where not here."""

    tree: Oid | None
    reachable: bool  # from the branch or trunk


def settle(
    task: str,
    trunk: Tracking | None,
    tip: Tracking | None,
    bases: Sequence[Tracking | None],
) -> tuple[Tracking, bool]:
    """The tracking of a task, and whether it is the one that stands on trunk.

    `status` and `evidence` come from the branch's tip where they differ there from those at every
    merge base of the two, else from trunk: so a revert on trunk counts, and so does work that a
    branch did after it. Learnings and gaps are those of both, and so is one claim's cost.

    >>> done, planned = Tracking("A1", Status.DONE), Tracking("A1")
    >>> settle("A1", planned, done, [planned])[0].status
    <Status.DONE: 'done'>
    >>> settle("A1", planned, done, [done])[0].status  # landed, then reverted on trunk
    <Status.PLANNED: 'planned'>
    """
    on_trunk = trunk or Tracking(task)
    if tip is None:
        return on_trunk, True
    said = (tip.status, tip.evidence, tip.claim)
    before = [(b.status, b.evidence, b.claim) if b else None for b in bases]
    if said in before or (trunk and said == (trunk.status, trunk.evidence, trunk.claim)):
        chosen, other, landed = on_trunk, tip, True
    else:
        chosen, other, landed = tip, on_trunk, False
    learnings = tuple(dict.fromkeys((*on_trunk.learnings, *tip.learnings)))
    gaps = _joined((*tip.spec_gaps, *on_trunk.spec_gaps))
    known = replace(chosen, learnings=learnings, spec_gaps=gaps)
    if chosen.claim == other.claim:  # of one claim's cost, which only grows, the later word counts
        cost = {n: max(chosen.cost.get(n, 0), v) for n, v in other.cost.items()}
        same = chosen.agent == other.agent  # who it was handed to has a session of its own
        session = chosen.session or (other.session if same else None)
        known = replace(known, cost={**chosen.cost, **cost}, session=session)
    return known, landed


def _joined(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """The gaps of two copies of a card: one resolved in either is resolved."""
    found: dict[str, Gap] = {}
    for gap in gaps:
        seen = found.get(gap.text)
        found[gap.text] = replace(seen, resolved=seen.resolved or gap.resolved) if seen else gap
    return tuple(found.values())


def judge(
    task: str,
    tracking: Tracking,
    *,
    landed: bool,
    digest: str,
    seen: Seen | None,
    steps: Sequence[Step] | None = None,
    tip: Oid | None = None,
) -> Fact:
    """What history makes of a task's tracking.

    Args:
        digest: the spec digest of trunk's card.
        seen: what history says of the evidence commit; None where there is no evidence.
        steps: what trunk's card runs; None leaves the recorded steps unlooked at.
    """
    misplaced = tracking.task != task
    reason = ""
    if tracking.status is Status.FAILED and tracking.evidence and tracking.evidence.runs:
        last = next((r for r in tracking.evidence.runs if r.exit), tracking.evidence.runs[-1])
        step = tracking.evidence.runs.index(last) + 1
        reason = f"step {step}, exit {last.exit}"
    verdict = Verdict.NONE
    if tracking.status is Status.DONE:
        verdict, reason = _weigh(tracking, landed, digest, seen)
        if (
            verdict in {Verdict.HOLDS, Verdict.UNCHECKED}
            and tracking.evidence
            and steps is not None
        ):
            other = misfit(tracking.evidence.runs, steps)
            verdict, reason = (Verdict.UNPROVEN, other) if other else (verdict, reason)
    if misplaced:
        reason = f"its tracking is that of {tracking.task}"
    return Fact(tracking, verdict, reason, misplaced=misplaced, landed=landed, tip=tip)


def _weigh(tracking: Tracking, landed: bool, digest: str, seen: Seen | None) -> tuple[Verdict, str]:
    evidence = tracking.evidence
    if evidence is None or seen is None:
        return Verdict.UNPROVEN, "done without evidence"
    short = evidence.commit[:10]
    if seen.tree is not None and seen.tree != evidence.tree:
        return Verdict.UNPROVEN, f"the commit {short} does not have the code tree it claims"
    if seen.tree is None and not landed:
        return Verdict.UNPROVEN, f"the commit {short} is not in this repository"
    if not evidence.runs:
        return Verdict.UNPROVEN, "no step of its evidence was run"
    if any(run.exit for run in evidence.runs):
        return Verdict.UNPROVEN, "a step of its evidence failed"
    if evidence.spec != digest:
        return Verdict.STALE, "the spec changed since it was verified"
    if seen.tree is None:
        return Verdict.UNCHECKED, f"landed; the commit {short} is not here to be looked at"
    if not landed and not seen.reachable:
        return Verdict.STALE, f"the verified commit {short} was rewritten away"
    return Verdict.HOLDS, ""


def misfit(runs: Sequence[Run], steps: Sequence[Step]) -> str:
    """How recorded runs differ from a pass of `steps`; empty where they do not.

    >>> misfit([Run("make", 0, 1.0, "")], [Step("make")])
    ''
    >>> misfit([Run("true", 0, 1.0, "")], [Step("make")])
    "step 1 is recorded as 'true', and is 'make'"
    """
    if len(runs) != len(steps):
        return f"its evidence records {len(runs)} of {len(steps)} steps"
    for number, (run, step) in enumerate(zip(runs, steps, strict=True), 1):
        if step.manual is not None:
            fits = run.run.startswith(f"manual: {step.manual} (confirmed by ")
        else:
            fits = run.run == step.run
        if not fits:
            return f"step {number} is recorded as {run.run!r}, and is {step.manual or step.run!r}"
        if run.exit:
            return f"step {number} is recorded with exit {run.exit}"
    return ""
