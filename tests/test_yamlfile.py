"""The fast parser gives exactly what the strict one gives, or leaves the text to it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gitwaves import yamlfile

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
PIECES = [
    *(": ", " ", "\n", "-", "- ", ":", "#", " #", "'", '"', "|", ">", "|-", ">+", "{", "}", "[", "]"),
    *(",", "?", "? ", "&a ", "*a", "!", "!!str ", "%", "@", "`", "\\", "\\n", "<<: ", "~", "null"),
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
        patch.setattr(yamlfile, "_ODD_TEXT", re.compile(""))  # everything is odd
        return fast, yamlfile.load(data, "a.yaml", first_line=3)


def test_the_fast_parser_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from ruamel.yaml import YAML

    assert YAML(typ="safe").Parser is not YAML(typ="safe", pure=True).Parser
    assert not yamlfile._ODD_TEXT.search(CARD)
    fast, strict = both(CARD, monkeypatch)
    assert not fast.findings
    assert fast == strict


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
