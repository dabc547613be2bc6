from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitwaves.boundary import Boundary, overlap, problem

SEGMENTS = (
    *("**", "*", "a", "b", "ab", "a*", "*b", "?", "a?", "[ab]", "[!a]", "a**b", "***"),
    *("\\*", "[a-c]b", "[]a]", "[^b]*", "*a*b*", "**a", "[!]]", "[a-]", "é*"),
)
patterns = st.tuples(
    st.sampled_from(["", "/"]),
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4).map("/".join),
    st.sampled_from(["", "", "/"]),
).map("".join)
paths = st.lists(st.text("abc*]é\n", min_size=1, max_size=3), min_size=1, max_size=5).map("/".join)


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("README.md", "README.md README.md/x", "docs/README.md README.mdx"),
        ("/README.md", "README.md", "docs/README.md"),
        (
            "services/ledger",
            "services/ledger services/ledger/a/b.py",
            "services/ledger2/a x/services/ledger",
        ),
        ("services/ledger/", "services/ledger/a", "services/ledger services"),
        ("services/ledger/**", "services/ledger/a services/ledger/a/b", "services/ledger services"),
        ("**/x", "x a/x a/b/x a/x/y", "xx a/xx"),
        ("a/**/b", "a/b a/x/b a/x/y/b/z", "a/xb ab"),
        ("**", "a a/b .git", ""),
        ("**/", "a/b", "a"),
        ("a/**/", "a/x/y", "a/x a"),
        ("docs/*.md", "docs/a.md docs/.md docs/a.md/b", "docs/a/b.md docs/a.MD"),
        ("a?c", "abc", "ac a/c abbc"),
        ("a[!b]c", "axc", "abc a/c"),
        ("[]-]x", "]x -x", "ax"),
        ("app/\\[id\\]/*", "app/[id]/page.tsx", "app/i/page.tsx"),
        ("#x", "#x", "x"),
        ("{a,b}", "{a,b}", "a b"),
    ],
)
def test_patterns_cover_what_git_would_ignore(pattern: str, inside: str, outside: str) -> None:
    boundary = Boundary((pattern,))
    assert [path for path in inside.split() if not boundary.covers(path)] == []
    assert [path for path in outside.split() if boundary.covers(path)] == []


def test_no_pattern_is_no_boundary_and_a_bad_one_covers_nothing() -> None:
    assert Boundary(()).covers("anything/at/all")
    assert not Boundary(("!x", "../y")).covers("x")


def test_a_new_line_in_a_name_hides_nothing() -> None:
    assert not Boundary(("a",)).covers("a\n")
    assert Boundary(("a/**",)).covers("a/b\nc/d")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", "it is empty; `**` covers everything"),
        ("/", "it is empty; `**` covers everything"),
        ("!docs", "'!' is not supported: list what is covered"),
        ("a/../b", "'..' leads out of the repository"),
        ("./a", "'.' is never part of a path; `**` covers everything"),
        ("a//b", "an empty component ('//') matches nothing"),
        ("//a", "an empty component ('//') matches nothing"),
        (" a", "it starts or ends with a space"),
        ("a\x00b", "it holds a character that cannot be seen"),
        ("a\n", "it holds a character that cannot be seen"),
        ("a\\b", "a backslash only goes before one of *?[]!# \\"),
        ("a\\", "a backslash only goes before one of *?[]!# \\"),
        ("a[b", "'[' is never closed; write '\\[' for the character"),
        ("[]", "'[' is never closed; write '\\[' for the character"),
        ("[z-a]", "[z-a] holds a range that is the wrong way round"),
        ("[[:alpha:]]", "[[:alpha:] is more than this reads: characters and ranges such as [a-z]"),
    ],
)
def test_bad_patterns_are_told(pattern: str, expected: str) -> None:
    assert problem(pattern) == expected


@given(st.text("a/*?[]!\\-. \n#", max_size=8))
def test_any_text_is_a_problem_or_a_pattern(text: str) -> None:
    assert problem(text) is not None or isinstance(Boundary((text,)).covers("a"), bool)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("services/**", "services/ledger/**", "services/ledger/x"),
        ("docs/*.md", "docs/a*", "docs/a.md"),
        ("**/*.sql", "services/ledger", "services/ledger/.sql"),
        ("a/", "a", "a/x"),
        ("a/**/z", "a/b/**", "a/b/z"),
        ("[a-c]x", "[!ab]x", "cx"),
        ("x*y*z", "x?z", "xyz"),
        ("x*y*z", "x?y", None),
        ("services/ledger", "services/ledger-ui", None),
        ("docs/*.md", "docs/*.txt", None),
        ("*.md", "docs", None),
        ("README.md", "docs/README.md", None),
        ("?", "??", None),
        ("[ab]", "[cd]", None),
        ("Makefile", "**/tests/**", None),
        ("README.md", "**/tests/**", None),
        ("src/*.py", "src/**/*.sql", None),
        ("src/*.py", "src/", "src/.py"),
        ("api.v2", "api.v2/docs/**", "api.v2/docs/x"),
        ("api.v2/", "**/docs/**", "api.v2/docs/x"),
        (".github", "**/docs/**", ".github/docs/x"),
        (".?", "?.", None),
    ],
)
def test_what_two_patterns_both_claim(a: str, b: str, expected: str | None) -> None:
    found = overlap(Boundary((a,)), Boundary((b,)))
    assert found == expected


def test_a_file_that_is_there_is_the_better_example() -> None:
    files = ["README.md", "libs/money.py", "libs/util.py"]
    a, b = Boundary(("a/**", "libs/*")), Boundary(("b/**", "libs/**"))
    assert overlap(a, b, files) == "libs/money.py"
    assert overlap(a, b, ["README.md"]) == "libs/x"


def test_what_is_shared_is_no_overlap() -> None:
    a, b = Boundary(("libs/**", "*.lock")), Boundary(("libs/**", "poetry.*"))
    assert overlap(a, b, shared=Boundary(("libs/x",))) == "libs/y"
    assert overlap(a, b, shared=Boundary(("libs/**",))) == "poetry.lock"
    assert overlap(a, b, ["libs/a", "poetry.lock"], Boundary(("libs", "*.lock"))) is None


def test_a_file_that_is_there_is_no_folder() -> None:
    a, b = Boundary(("bin/tool",)), Boundary(("**/tests/**",))
    assert overlap(a, b) == "bin/tool/tests/x"
    assert overlap(a, b, ["bin/tool"]) is None


@given(patterns, patterns, st.lists(paths, max_size=10))
def test_no_overlap_is_missed_and_none_is_made_up(a: str, b: str, files: list[str]) -> None:
    one, other = Boundary((a,)), Boundary((b,))
    claimed = [path for path in files if one.covers(path) and other.covers(path)]
    found = overlap(one, other, files)
    if claimed:
        assert found == claimed[0]
    if found is not None:
        assert one.covers(found)
        assert other.covers(found)
        assert overlap(other, one, files) is not None
