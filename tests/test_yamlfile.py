"""The fast parser gives exactly what the strict one gives, or leaves the text to it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gitwaves import cards, yamlfile, yamlplain

CARD = """\
id: A1
title: "Ledger: schema \\u00e9\\x41"
depends_on: [B1, 'B 2', "C3"]   # a comment
batch: 1
estimate: 1h30m
x-owner: {team: a, since: 2024-01-01, ratio: 1.5e3}
spec: |
  Balances   never go negative.

    - indented: yes
  # no comment
acceptance:
- one two
  three
- >-
  folded
  text

  more
verify:
  - run: 'test "$(cat a)" = x'
    timeout: 10m
  - {run: "a\\\\n b", always: true}
cancelled: ~
"""
PLAIN = """\
id: A1
title: Ledger - schema, and migrations (all of them)
depends_on: [B1, services/b-2.x, ./c/**]
batch: 12
estimate: 1h30m
x-from: docs/design.md:24
spec: |
  Balances   never go: negative.

    - indented # yes

acceptance:
  - It holds.
  - "quoted: twice"
verify:
- run: python -m pytest -q 'a b'
  timeout: 10m
- run: make
nested:
  claim:
    tree: 'a'
  seconds: 0.25
"""
PIECES = [
    *(": ", " ", "\n", "-", "- ", ":", "#", " #", "'", '"', "|", ">", "|-", ">+", "{", "}", "[", "]"),
    *(",", "?", "? ", "&a ", "*a", "!", "!!str ", "%", "@", "`", "\\", "\\n", "<<: ", "~", "null"),
    *("- a: b\n", "\n  - x\n", "a: b\n", "1", "0x1", "1e3", ".5", "1:30", "012", "yes", "1.0", "="),
    *("---", "...", "  ", "\t", "\r\n", "\r", "\x00", "\x85", "\u2028", "\ufeff", "\U0001f600", "é"),
]  # fmt: skip
edits = st.lists(
    st.tuples(st.integers(0, len(CARD)), st.integers(0, 12), st.sampled_from(["", *PIECES])),
    max_size=5,
)


def changed(text: str, changes: list[tuple[int, int, str]]) -> str:
    for at, gone, new in changes:
        text = text[:at] + new + text[at + gone :]
    return text


def both(text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[yamlfile.Document, ...]:
    data = text.encode(errors="surrogatepass")
    fast = yamlfile.load(data, "a.yaml", first_line=3)
    with monkeypatch.context() as patch:
        patch.setattr(yamlfile, "has_odd_letters", lambda _: True)
        return fast, yamlfile.load(data, "a.yaml", first_line=3)


def test_the_fast_parser_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from ruamel.yaml import YAML

    assert YAML(typ="safe").Parser is not YAML(typ="safe", pure=True).Parser
    assert not yamlfile.has_odd_letters(CARD)
    assert not yamlfile._ODD_FORMS.search(CARD)
    fast, strict = both(CARD, monkeypatch)
    assert not fast.findings
    assert fast == strict


def test_what_is_plain_is_read_without_a_parser() -> None:
    assert yamlplain.read(PLAIN)[0] == yamlfile.load(PLAIN.encode(), "a.yaml").value
    with pytest.raises(yamlplain.NotPlain):
        yamlplain.read(CARD)


@given(st.integers(0, 2), edits)
def test_plain_text_is_read_as_all_text_is(cut: int, changes: list[tuple[int, int, str]]) -> None:
    start = (0, PLAIN.index("acceptance"), PLAIN.index("nested"))[cut]
    text = changed(PLAIN[start:], changes)
    with pytest.MonkeyPatch.context() as monkeypatch:
        fast, strict = both(text, monkeypatch)
        assert fast == strict
        assert repr(fast.value) == repr(strict.value)


_SCALARS = st.one_of(
    st.sampled_from(
        [
            "A1",
            "it is",
            "it's",
            'a "b" \\ c',
            "- a: b",
            " a ",
            "caf\u00e9",
            "yes",
            "1e3",
            "",
            *PIECES,
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    st.text(max_size=8),
    st.integers(),
    st.floats(0, 1e6),
    st.booleans(),
)
_KEYS = st.sampled_from(["task", "B5", "a b", "y", "1", "x: y", "k" * 101]) | st.text(max_size=4)
_MAPPINGS = st.recursive(
    st.dictionaries(_KEYS, _SCALARS, max_size=3),
    lambda inner: st.dictionaries(
        _KEYS, _SCALARS | inner | st.lists(_SCALARS | inner, max_size=3), max_size=4
    ),
    max_leaves=8,
)


@given(_MAPPINGS)
def test_what_is_plain_is_written_as_ruamel_writes_it(value: dict[str, Any]) -> None:
    with contextlib.suppress(yamlplain.NotPlain):
        assert yamlplain.written({"tracking": value}).encode() == cards._written(
            {"tracking": value}
        )


def test_what_tracking_mostly_says_is_plain() -> None:
    run = {"run": "make 'all' \"x\" \\ y: z", "exit": 0, "seconds": 0.25, "log": "sha256:00"}
    value = {
        "tracking": {"task": "A1", "evidence": {"tree": "1" * 40, "runs": [run, run]}, "c": {}}
    }
    assert yamlplain.written(value).encode() == cards._written(value)


@example([(0, 0, "a: b: c\n")])
@example([(0, 0, "? a\n: b\n")])
@example([(0, 0, "{a:b, c}: 1\n")])
@example([(0, 0, "%YAML 1.1\n---\n")])
@example([(0, 0, "a: &x 1\nb: *x\n")])
@given(edits)
def test_both_parsers_read_the_same(changes: list[tuple[int, int, str]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        fast, strict = both(changed(CARD, changes), monkeypatch)
        assert fast == strict
        assert repr(fast.value) == repr(strict.value)  # 1, 1.0 and True are equal, and not the same
