"""What is made of a card in one go is what reading it strictly makes, or nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gitwaves import plainrows, yamlfile
from gitwaves.cards import read_card, tracking_bytes
from gitwaves.halves import join
from gitwaves.model import Claim, Evidence, Oid, Run, Status, Tracking
from gitwaves.plainrows import plain_row
from gitwaves.rows import Row, row_of, slim_of
from tests.test_yamlfile import PIECES

PATH = ".workstreams/WS-A/A1.yaml"
SPEC = b"""\
id: A1
title: Ledger - schema, and migrations (all of them)
depends_on: [B1, C2,MP1]
batch: 12
estimate: 1h30m
agent: claude
paths:
  - services/ledger/**
  - "odd: name"
spec: |
  Balances   never go: negative.

    - indented # yes

acceptance:
  - It holds.
  - "quoted: twice"
produces:
  - services/ledger/schema.sql
cancelled: "No: not any more"
verify:
  - run: python -m pytest -q 'a b'
    timeout: 10m
  - run: make
"""
OID, DIGEST = Oid("0a" * 20), "sha256:" + "1b" * 32
WHOLE = Tracking(
    "A1",
    Status.DONE,
    claim=Claim(OID, DIGEST, "0123456789abcdef"),
    agent="claude",
    clone="0f0f0f0f",
    session="1e1e-2",
    started="2026-01-02T03:04:05Z",
    finished="2026-01-02T03:04:06Z",
    attempts=2,
    evidence=Evidence(
        Oid("ab" * 20),
        OID,
        DIGEST,
        (Run("python -m pytest -q 'a b'", 0, 1.25, DIGEST), Run("make: it", 1, 0.1, DIGEST)),
    ),
    learnings=("It works.", "twice: it does"),
)
TRACKINGS = (
    Tracking("A1"),
    Tracking("A2"),
    Tracking("A1", Status.ACTIVE, claim=WHOLE.claim, agent="cursor", started=WHOLE.started),
    Tracking("A1", Status.FAILED, attempts=1),
    WHOLE,
    Tracking("A1", Status.DONE, learnings=("It works.",)),
    Tracking("A1", Status.DONE, cost={"turns": 2}),
)
LINES = [
    *("agent: null\n", "paths: []\n", "verify: []\n", "x-mine: 1\n", "# a comment\n", "\n", "  \n"),
    *("batch: 1.0\n", "batch: 01\n", "batch: P1-B2\n", 'batch: "2"\n', "estimate: 0m\n", "id: A2\n"),
    *("depends_on:\n  - B1\n  - B1\n", "depends_on: [B1, B1]\n", "  - always: true\n", "    always: true\n"),
    *("    timeout: 0s\n", "  - manual: Look.\n", "  - ../x\n", "  - /x\n", "    x: y\n", "tracking:\n"),
    *('paths:\n  - "!a"\n', '  - "!a"\n', '  - "  "\n', '  - "..\\"\n', '  - "/x"\n', '  - " x"\n'),
    *("title: null\n", "title: a: b\n", "title: a #b\n", "title: 'a'\n", "titel: a\n", "spec: |-\n"),
    *("  status: done\n", "  attempts: 0\n", '  started: "yesterday"\n', "  agent: 12\n", "    inputs: []\n"),
]  # fmt: skip


def require_same(data: bytes, path: str = PATH) -> bool:
    """Asserts that it is what the reader of all YAML makes of it; whether anything was made."""
    made = plain_row(data, path)
    if made is None:
        return False
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(yamlfile, "has_odd_letters", lambda _: True)  # nothing else is asked
        monkeypatch.setattr(plainrows, "plain_tracking", lambda _: None)
        card = read_card(data, path)
    assert (made[0], in_order(made[1])) == (slim_of(card), in_order(row_of(card)))
    assert repr(in_order(made[1])) == repr(in_order(row_of(card)))  # which tells 1 from True
    return True


def in_order(row: Row) -> Row:
    """A row with the places in order: in which they were found says nothing."""
    is_task, spec, *rest = row
    return is_task, spec and (*spec[:-1], sorted(spec[-1].items())), *rest


@pytest.mark.parametrize("n", range(len(TRACKINGS)))
def test_what_gitwaves_writes_is_plain(n: int) -> None:
    tracking = TRACKINGS[n]
    plain = not tracking.cost  # which clients give in many forms
    assert require_same(join(SPEC, tracking_bytes(tracking))) is plain


def test_the_least_is_plain() -> None:
    assert require_same(join(b"id: A1\ntitle: A\n", tracking_bytes(Tracking("A1"))))


def test_our_own_plan_is_plain() -> None:
    cards = sorted(Path(".workstreams").glob("WS-*/*.yaml"))
    cards = [card for card in cards if card.name != "workstream.yaml"]
    plain = [require_same(card.read_bytes(), str(card)) for card in cards]
    assert sum(plain) > len(cards) * 0.9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"verify:\n", b"verify: all\n"),
        (b"depends_on: [B1, C2,MP1]\n", b"depends_on:\n  - B1\n  - not an id\n"),
        (b"depends_on: [B1, C2,MP1]\n", b"depends_on: [" + b"B" * 65 + b"]\n"),
        (b"depends_on: [B1, C2,MP1]\n", b"depends_on: [B1, C2, B1]\n"),
        (b"depends_on: [B1, C2,MP1]\n", b"depends_on: [B..1]\n"),
        (b"  - run: make\n", b"  - run: make\n# --- tracking: not here\n"),
        (b"verify:\n", b"x-" + b"a" * 1100 + b": 1\nverify:\n"),
        (b"  - run: make\n", b"  - run: mak"),  # the separator follows on the same line
        (b'    tree: "0a0a', b"    tree: 0a0a"),
        (b'    tree: "' + OID.encode() + b'"', b"    tree: " + b"12" * 20),
    ],
)
def test_what_is_read_in_another_way(old: bytes, new: bytes) -> None:
    data = join(SPEC, tracking_bytes(WHOLE))
    assert require_same(data)
    assert old in data
    assert not require_same(data.replace(old, new))


def test_hostile_cards() -> None:
    for card in sorted(Path("tests/hostile/cards").iterdir()):
        require_same(card.read_bytes())


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 60))]
)
def test_whatever_is_changed(seed: int) -> None:
    chance = random.Random(seed)
    plain = 0
    for _ in range(300):
        text = join(SPEC, tracking_bytes(chance.choice(TRACKINGS))).decode()
        for _ in range(chance.randrange(1, 4)):
            lines = text.splitlines(keepends=True)
            at = chance.randrange(len(lines))
            deed = chance.randrange(6)
            if deed == 0:
                del lines[at]
            elif deed == 1:
                lines.insert(at, chance.choice(lines))
            elif deed == 2:
                lines.insert(at, chance.choice(LINES))
            elif deed == 3:
                lines[at] = chance.choice(LINES)
            elif deed == 4:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            text = "".join(lines) or text
            if deed == 5:
                at = chance.randrange(len(text))
                piece = chance.choice(["", *PIECES])
                text = text[:at] + piece + text[at + chance.randrange(3) :]
        plain += require_same(text.encode(errors="surrogatepass"))
    assert plain > 10
