from __future__ import annotations

from itertools import product

import pytest

from gitwaves.model import Claim, Evidence, Gap, Oid, Run, Status, Tracking, Verdict
from gitwaves.state import Seen, judge, settle

COMMIT, TREE, OTHER = Oid("c" * 40), Oid("d" * 40), Oid("e" * 40)
PASSED = Run("make test", 0, 1.5, "sha256:0")
PROOF = Evidence(COMMIT, TREE, "sha256:spec", (PASSED,))
PLANNED = Tracking("A1")
ACTIVE = Tracking("A1", Status.ACTIVE, claim=Claim(TREE, "sha256:spec", "1"))
DONE = Tracking("A1", Status.DONE, claim=ACTIVE.claim, evidence=PROOF)
DONE_AGAIN = Tracking("A1", Status.DONE, evidence=Evidence(OTHER, TREE, "sha256:spec", (PASSED,)))


@pytest.mark.parametrize(
    ("trunk", "tip", "bases", "wanted"),
    [
        (PLANNED, None, [], (PLANNED, True)),  # never begun
        (None, None, [], (PLANNED, True)),  # a card without a tracking half
        (PLANNED, ACTIVE, [PLANNED], (ACTIVE, False)),
        (PLANNED, DONE, [PLANNED], (DONE, False)),
        (PLANNED, DONE, [None], (DONE, False)),  # the card came to trunk after the branch
        (PLANNED, DONE, [], (DONE, False)),  # unrelated histories
        (DONE, DONE, [DONE], (DONE, True)),  # landed
        (DONE, DONE, [PLANNED], (DONE, True)),  # landed by a squash
        (PLANNED, DONE, [DONE], (PLANNED, True)),  # landed, and reverted on trunk
        (PLANNED, ACTIVE, [DONE], (ACTIVE, False)),  # ... and begun anew
        (PLANNED, DONE_AGAIN, [DONE], (DONE_AGAIN, False)),  # ... and done anew
        (DONE, PLANNED, [PLANNED], (DONE, True)),  # the branch is behind
        (DONE, ACTIVE, [DONE], (ACTIVE, False)),  # begun again after it landed
        (PLANNED, DONE, [PLANNED, DONE], (PLANNED, True)),  # said at one of several bases
        (PLANNED, DONE, [PLANNED, ACTIVE], (DONE, False)),
        (PLANNED, PLANNED, [ACTIVE], (PLANNED, True)),  # released
    ],
)
def test_the_tip_counts_where_it_says_what_no_base_said(
    trunk: Tracking | None,
    tip: Tracking | None,
    bases: list[Tracking | None],
    wanted: tuple[Tracking, bool],
) -> None:
    assert settle("A1", trunk, tip, bases) == wanted


def test_a_claim_after_a_revert_is_not_the_one_before_it() -> None:
    anew = Tracking("A1", Status.ACTIVE, claim=Claim(TREE, "sha256:spec", "2"))
    assert settle("A1", PLANNED, anew, [ACTIVE]) == (anew, False)


def test_the_rule_is_that_of_a_three_way_merge() -> None:
    said = [PLANNED, ACTIVE, DONE, DONE_AGAIN]
    for trunk, tip, base in product(said, repeat=3):
        got, landed = settle("A1", trunk, tip, [base])
        assert got == (tip if tip not in (base, trunk) else trunk)
        assert landed == (got == trunk)


def test_learnings_and_gaps_are_those_of_both() -> None:
    trunk = Tracking("A1", learnings=("old", "both"), spec_gaps=(Gap("a"), Gap("b", resolved=True)))
    tip = Tracking(
        "A1",
        Status.ACTIVE,
        learnings=("both", "new"),
        spec_gaps=(Gap("a", resolved=True), Gap("b")),
    )
    got, _ = settle("A1", trunk, tip, [trunk])
    assert got.learnings == ("old", "both", "new")
    assert {gap.text: gap.resolved for gap in got.spec_gaps} == {"a": True, "b": True}
    back, landed = settle("A1", trunk, tip, [tip])  # reverted: what was learned stays
    assert (back.status, landed, back.learnings) == (Status.PLANNED, True, got.learnings)


SEEN, GONE, AWAY = Seen(TREE, True), Seen(None, False), Seen(TREE, False)


@pytest.mark.parametrize(
    ("tracking", "landed", "digest", "seen", "wanted"),
    [
        (PLANNED, True, "sha256:spec", None, Verdict.NONE),
        (ACTIVE, False, "sha256:spec", None, Verdict.NONE),
        (DONE, False, "sha256:spec", SEEN, Verdict.HOLDS),
        (DONE, True, "sha256:spec", SEEN, Verdict.HOLDS),
        (DONE, False, "sha256:new", SEEN, Verdict.STALE),
        (DONE, True, "sha256:new", SEEN, Verdict.STALE),
        (DONE, True, "sha256:new", GONE, Verdict.STALE),
        (DONE, False, "sha256:spec", AWAY, Verdict.STALE),  # rewritten
        (DONE, True, "sha256:spec", AWAY, Verdict.HOLDS),  # a squash, and the branch deleted
        (DONE, True, "sha256:spec", GONE, Verdict.UNCHECKED),
        (DONE, False, "sha256:spec", GONE, Verdict.UNPROVEN),  # never here
        (DONE, False, "sha256:spec", Seen(OTHER, True), Verdict.UNPROVEN),
        (DONE, True, "sha256:spec", Seen(OTHER, True), Verdict.UNPROVEN),
        (DONE, False, "sha256:new", Seen(OTHER, True), Verdict.UNPROVEN),  # before stale
        (Tracking("A1", Status.DONE), False, "sha256:spec", None, Verdict.UNPROVEN),
        (Tracking("A1", Status.DONE), True, "sha256:spec", None, Verdict.UNPROVEN),
    ],
)
def test_what_evidence_is_worth(
    tracking: Tracking, landed: bool, digest: str, seen: Seen | None, wanted: Verdict
) -> None:
    fact = judge("A1", tracking, landed=landed, digest=digest, seen=seen)
    assert fact.verdict is wanted
    good = {Verdict.NONE, Verdict.HOLDS}
    assert bool(fact.reason) == (wanted not in good)
    assert fact.landed == landed


def test_a_failed_step_proves_nothing() -> None:
    bad = Evidence(COMMIT, TREE, "sha256:spec", (PASSED, Run("lint", 2, 0.1, "sha256:0")))
    done = Tracking("A1", Status.DONE, evidence=bad)
    fact = judge("A1", done, landed=False, digest="sha256:spec", seen=SEEN)
    assert fact.verdict is Verdict.UNPROVEN


def test_the_tracking_of_another_card_is_misplaced() -> None:
    fact = judge("A2", DONE, landed=False, digest="sha256:spec", seen=SEEN)
    assert fact.misplaced
    assert fact.reason == "its tracking is that of A1"


def test_a_failure_says_its_step() -> None:
    runs = (PASSED, Run("lint", 2, 0.1, "sha256:0"))
    failed = Tracking("A1", Status.FAILED, evidence=Evidence(COMMIT, TREE, "sha256:spec", runs))
    fact = judge("A1", failed, landed=False, digest="sha256:spec", seen=None)
    assert (fact.verdict, fact.reason) == (Verdict.NONE, "step 2, exit 2")
