"""Cards read at a glance: only what is written as gitwaves writes it; anything else is `Odd`.

For the server's door, which has no time to load a YAML parser. What is read here is believed only
where it proves itself: a tracking half that could be nothing else, a spec whose digest is the one
that was recorded.
"""

from __future__ import annotations

SEPARATOR = b"# --- tracking: written by gitwaves on the worktree's branch ---\n"

# What may stand in the files whose reading nothing proves; a file with more in it may not be valid.
_CONFIG = frozenset(
    "version title trunk agents agent design batches dispatch worktrees setup remote merge"
    " default_estimate retries lease learnings shared_paths profiles on_event allowed_signers".split()
)
_STREAM = frozenset("title paths branch agent".split())

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_WORDS = frozenset("y n yes no on off true false null nan inf".split())
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+@-")
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_HEX = frozenset("0123456789abcdef")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_TIMEOUT = 30 * 60  # seconds: what a step has that names none


class Odd(Exception):
    """It is not plain enough to be read at a glance."""


class Evidence:
    """The evidence of a `done`, as far as it can be held against history."""

    __slots__ = ("commit", "passed", "spec", "tree")

    def __init__(self, commit: str, tree: str, spec: str, passed: bool) -> None:
        self.commit = commit
        self.tree = tree
        self.spec = spec
        self.passed = passed  # some step was run, and none failed


class Plain:
    """A tracking half; `bare` where it says nothing but the status."""

    __slots__ = ("bare", "evidence", "status", "task")

    def __init__(self, task: str, status: str, evidence: Evidence | None, bare: bool) -> None:
        self.task = task
        self.status = status
        self.evidence = evidence
        self.bare = bare


def halves(data: bytes | None) -> tuple[bytes, bytes]:
    """The two halves of a card.

    Raises:
        Odd: it has no tracking half, or more than one line that looks like the one between them.
    """
    if data is None or data.count(b"# --- tracking") != 1 or b"\r" in data:
        raise Odd("halves")
    spec, line, tracking = data.partition(SEPARATOR)
    if not line or not spec.endswith(b"\n"):
        raise Odd("halves")
    return spec, tracking


# --- tracking: byte for byte as `cards.tracking_bytes` writes it ------------------------------


class _Lines:
    """The lines of a tracking half, read from the first to the last."""

    def __init__(self, text: str) -> None:
        if not text.endswith("\n"):
            raise Odd("end")
        self._lines = text[:-1].split("\n")
        self._at = 0

    def take(self, start: str) -> str | None:
        """What follows `start` on the next line, if that begins so."""
        if self._at < len(self._lines) and self._lines[self._at].startswith(start):
            self._at += 1
            return self._lines[self._at - 1][len(start) :]
        return None

    def need(self, start: str) -> str:
        found = self.take(start)
        if found is None:
            raise Odd(start)
        return found

    def opens(self, line: str) -> bool:
        """Whether the next line is this one, which is then behind."""
        if self._lines[self._at : self._at + 1] != [line]:
            return False
        self._at += 1
        return True

    def need_line(self, line: str) -> None:
        if not self.opens(line):
            raise Odd(line)

    def end(self) -> None:
        if self._at != len(self._lines):
            raise Odd(self._lines[self._at])


def tracking_of(half: bytes) -> Plain:
    """What a tracking half says.

    Raises:
        Odd: gitwaves might have written it otherwise, or it is more than is read here.
    """
    lines = _Lines(_ascii(half))
    lines.need_line("tracking:")
    task = text_of(lines.need("  task: "))
    status = lines.need("  status: ")
    if status not in {"planned", "active", "failed", "done"}:
        raise Odd(status)
    bare = True
    if lines.opens("  claim:"):
        bare = False
        _oid(lines.need("    tree: "))
        _digest(lines.need("    spec: "))
        if not text_of(lines.need("    id: ")):
            raise Odd("id")
    for key in ("agent", "clone", "session"):
        if (said := lines.take(f"  {key}: ")) is not None:
            bare = False
            if not text_of(said):
                raise Odd(key)
    for key in ("started", "finished"):
        if (said := lines.take(f"  {key}: ")) is not None:
            bare = False
            _time(said)
    if (said := lines.take("  attempts: ")) is not None:
        bare = False
        if _number(said) == 0:
            raise Odd(said)
    evidence = None
    if lines.opens("  evidence:"):
        bare = False
        evidence = _evidence(lines)
    if lines.opens("  learnings:"):
        bare = False
        text_of(lines.need("  - "))
        while (said := lines.take("  - ")) is not None:
            text_of(said)
    lines.end()
    return Plain(task, status, evidence, bare)


def _evidence(lines: _Lines) -> Evidence:
    commit, tree = _oid(lines.need("    commit: ")), _oid(lines.need("    tree: "))
    spec = _digest(lines.need("    spec: "))
    if lines.opens("    inputs:"):
        _oid(lines.need("    - "))
        while (said := lines.take("    - ")) is not None:
            _oid(said)
    lines.need_line("    runs:")
    passed = False
    while (said := lines.take("    - run: ")) is not None:
        text_of(said)
        ended = _number(lines.need("      exit: "))
        _float(lines.need("      seconds: "))
        text_of(lines.need("      log: "))
        if ended:
            raise Odd("a step failed")
        passed = True
    return Evidence(commit, tree, spec, passed)


def _ascii(data: bytes) -> str:
    if not data.isascii():
        raise Odd("not ASCII")
    return data.decode("ascii")


def text_of(token: str) -> str:
    """A piece of text, in quotes only where it has to be: one text is written in one way."""
    if not token.startswith('"'):
        if not _is_plain(token):
            raise Odd(token)
        return token
    if len(token) < 2 or not token.endswith('"') or not token.isprintable():
        raise Odd(token)
    inner, found, at = token[1:-1], "", 0
    while at < len(inner):
        char = inner[at]
        if char == '"':
            raise Odd(token)
        if char == "\\":
            at += 1
            char = inner[at : at + 1]
            if char not in {'"', "\\"} or not char:
                raise Odd(token)
        found += char
        at += 1
    if _is_plain(found):
        raise Odd(token)
    return found


def _is_plain(text: str) -> bool:
    words = text.split(" ")
    if not text or text[0] not in _LETTERS or text.lower() in _WORDS:
        return False
    return all(word and _PLAIN.issuperset(word) for word in words)


def _oid(token: str) -> str:
    oid = text_of(token)
    if len(oid) not in {40, 64} or not _HEX.issuperset(oid):
        raise Odd(token)
    return oid


def _digest(token: str) -> str:
    said = text_of(token)
    if len(said) != 71 or not said.startswith("sha256:") or not _HEX.issuperset(said[7:]):
        raise Odd(token)
    return said


def _time(token: str) -> None:
    said = text_of(token)
    shape = "".join("0" if c.isdigit() else c for c in said)
    if shape != "0000-00-00T00:00:00Z":
        raise Odd(token)


def _number(token: str) -> int:
    if not token.isdigit() or str(int(token)) != token:
        raise Odd(token)
    return int(token)


def _float(token: str) -> None:
    whole, dot, rest = token.partition(".")
    if not (dot and whole.isdigit() and rest.isdigit()) or repr(float(token)) != token:
        raise Odd(token)


# --- the spec half, the configuration: as people and `import` write them, at their plainest ----


def _keys(text: str) -> dict[str, tuple[str, list[str]]]:
    """The top-level keys of a file: what follows each on its line, and the lines below it."""
    found: dict[str, tuple[str, list[str]]] = {}
    below: list[str] = []
    if "\t" in text or "\r" in text:
        raise Odd("tab")
    for line in text.split("\n"):
        if line[:1] in {" ", "-"} or not line:
            below.append(line)
        elif not line.startswith("#"):
            key, colon, rest = line.partition(":")
            if not colon or not _is_plain(key) or (rest and rest[0] != " ") or key in found:
                raise Odd(line)
            below = []
            found[key] = rest.strip(), below
    return found


def _scalar(token: str) -> str:
    """A scalar on one line."""
    if token.startswith('"'):
        inner = token[1:-1]
        if len(token) < 2 or token[-1] != '"' or '"' in inner or "\\" in inner:
            raise Odd(token)
        return inner
    if token.startswith("'"):
        inner = token[1:-1]
        if len(token) < 2 or token[-1] != "'" or "'" in inner:
            raise Odd(token)
        return inner
    if not token or token[0] in "&*!|>%@`{}[],?#-:" or " #" in token or ": " in token:
        raise Odd(token)
    if token.endswith(":"):
        raise Odd(token)
    return token


def _list(rest: str, below: list[str]) -> list[str]:
    """A list of scalars, in brackets on one line or an item a line."""
    if rest:
        if not (rest.startswith("[") and rest.endswith("]")) or any(below):
            raise Odd(rest)
        inner = rest[1:-1].strip()
        if any(c in inner for c in "[]{}"):
            raise Odd(rest)
        return [_scalar(part.strip()) for part in inner.split(",")] if inner else []
    items = [line.lstrip(" ") for line in below if line]
    if not all(item.startswith("- ") for item in items):
        raise Odd("list")
    return [_scalar(item[2:].strip()) for item in items]


def _steps(below: list[str]) -> list[dict[str, str]]:
    steps: list[dict[str, str]] = []
    for line in filter(None, below):
        item = line.lstrip(" ")
        if item.startswith("- "):
            steps.append({})
            item = item[2:].lstrip(" ")
        key, colon, rest = item.partition(": ")
        if not steps or not colon or key in steps[-1] or not _is_plain(key):
            raise Odd(line)
        steps[-1][key] = _scalar(rest.strip())
    return steps


def _literal(rest: str, below: list[str]) -> str:
    """A text: a block after `|`, or a scalar."""
    if rest != "|":
        if any(below):
            raise Odd("text")
        return _scalar(rest)
    first = next((line for line in below if line.strip()), "")
    indent = len(first) - len(first.lstrip(" "))
    return "\n".join(line[indent:] for line in below)


def config_of(data: bytes) -> tuple[str, list[str]]:
    """The branch that a `config.yaml` names as trunk, and the paths that are shared."""
    keys = _keys(data.decode("utf-8"))
    if not all(key in _CONFIG or key.startswith("x-") for key in keys):
        raise Odd("config")
    trunk, below = keys.get("trunk", ("main", []))
    if any(below):
        raise Odd("trunk")
    return _scalar(trunk), _list(*keys["shared_paths"]) if "shared_paths" in keys else []


def stream_of(data: bytes, folder: str) -> tuple[list[str], str]:
    """The boundary and the branch that a `workstream.yaml` states."""
    keys = _keys(data.decode("utf-8"))
    if not all(key in _STREAM or key.startswith("x-") for key in keys) or not _is_plain(folder):
        raise Odd(folder)
    default = "ws/" + (folder[3:] if folder[:3].upper() == "WS-" else folder)
    branch, below = keys.get("branch", (default, []))
    if any(below):
        raise Odd("branch")
    return _list(*keys["paths"]) if "paths" in keys else [], _scalar(branch)


def paths_of(card: bytes | None) -> list[str]:
    """The paths that a task's card states for itself."""
    spec = halves(card)[0]
    if b"\npaths:" not in spec:
        return []
    return _list(*_keys(spec.decode("utf-8"))["paths"])


class Covers:
    """What some patterns cover, as far as that is plain: any other may cover more."""

    def __init__(self, patterns: list[str]) -> None:
        self.everything = "**" in patterns
        self.files: list[str] = []
        self.folders: list[str] = []
        for pattern in patterns:
            path = pattern.removeprefix("/").removesuffix("**")
            if pattern.startswith("!") or any(c in "*?[\\" for c in path) or not path.isprintable():
                continue
            if not path or path.startswith(("/", " ")) or path.endswith(" ") or "//" in path:
                continue
            if {".", ".."} & set(path.split("/")) or (pattern.endswith("**") and path[-1] != "/"):
                continue
            self.folders.append(path if path.endswith("/") else path + "/")
            if not path.endswith("/"):
                self.files.append(path)

    def covers(self, path: str) -> bool:
        return self.everything or path in self.files or path.startswith(tuple(self.folders))


def _json(value: object) -> str:
    """Canonical JSON, as `model` takes a digest of it."""
    from _json import encode_basestring_ascii

    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    if isinstance(value, dict):
        pairs = (f"{_json(k)}:{_json(v)}" for k, v in sorted(value.items()))
        return "{" + ",".join(pairs) + "}"
    return str(value)


def _step(step: dict[str, str]) -> dict[str, object]:
    if "manual" in step:
        return {"manual": step["manual"]}
    always = step.get("always", "false")
    timeout = _seconds(step["timeout"]) if "timeout" in step else _TIMEOUT
    return {"run": step["run"], "timeout": timeout, "always": always == "true"}


def _seconds(text: str) -> int:
    total, number = 0, ""
    for char in text:
        if char in _UNITS and number:
            total += int(number) * _UNITS[char]
            number = ""
        else:
            number += char
    if number or not total:
        raise Odd(text)
    return total


def card_digest(
    card: bytes, boundary: list[str], task_of: Callable[[str], bytes] | None = None
) -> str:
    """The spec digest of a task's card, or with `task_of` (the card of an id) of a merge point's.

    A card that is read otherwise than YAML reads it has a digest that nothing recorded.
    """
    keys = _keys(halves(card)[0].decode("utf-8"))

    def listed(key: str) -> list[str]:
        return _list(*keys[key]) if key in keys else []

    steps = [_step(s) for s in _steps(keys["verify"][1])] if "verify" in keys else []
    said: dict[str, object] = {
        "id": _scalar(keys["id"][0]),
        "spec": _literal(*keys["spec"]).strip() if "spec" in keys else "",
    }
    if task_of is None:
        lists = {k: listed(k) for k in ("acceptance", "paths", "produces")}
        said |= {**lists, "boundary": boundary, "verify": steps}
    else:
        requires = listed("requires")
        for task in requires if not steps else ():
            for step in _steps(_keys(halves(task_of(task))[0].decode("utf-8"))["verify"][1]):
                if (one := _step(step)) not in steps:
                    steps.append(one)
        said |= {"requires": sorted(requires, key=_natural), "verify": steps}
    return "sha256:" + hashed(_json(said).encode("ascii"), 64)


def hashed(data: bytes, digits: int) -> str:
    """The SHA-1 (40 digits) or SHA-256 of bytes; by the small C modules: OpenSSL is slow to load."""
    new: Any = None
    for module in ("_sha1",) if digits == 40 else ("_sha2", "_sha256"):
        try:
            new = __import__(module).__dict__["sha1" if digits == 40 else "sha256"]
        except ImportError:
            continue
        break
    if new is None:
        raise Odd("no hashes")
    return str(new(data).hexdigest())


def _natural(ident: str) -> list[tuple[int, int | str]]:
    """The order of ids as people count; the same as `model.natural`."""
    parts: list[tuple[int, int | str]] = []
    word = ""
    for char, following in zip(ident, ident[1:] + "\0", strict=True):
        word += char
        if char.isalnum() and (char.isdigit(), char.isalpha()) == (
            following.isdigit(),
            following.isalpha(),
        ):
            continue
        if char.isdigit():
            parts.append((2, int(word)))
        elif char.isalpha():
            parts.append((3, word.lower()))
        else:
            parts.append((1 if char == "." else 0, word))
        word = ""
    return [*parts, (-1, ident)]
