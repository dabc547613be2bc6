"""Which commands this clone has been told to run: kept outside the repository, by their text.

It stops surprise execution and is no sandbox. Whoever may write the user's files may write this.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gitwaves.digests import sha256
from gitwaves.errors import GitwavesError, Untrusted
from gitwaves.files import dumps, loads
from gitwaves.git import Repo
from gitwaves.model import Cards, Profile, natural, printable
from gitwaves.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What agents' clients set in all that they start (read off real runs).
_AGENT_VARIABLES = (
    "GITWAVES_RUN",
    "CLAUDECODE",
    "CODEX_THREAD_ID",
    "CODEX_SESSION_ID",
    "GEMINI_CLI",
    "OPENCODE",
    "CURSOR_AGENT",
)


# Commands by what they belong to: a task, a merge point, `setup`, a profile.
Named = Mapping[str, Sequence[str]]


class News(Record):
    """Commands that are not trusted yet: `now` are all that `name` has, `before` what it had."""

    name: str
    new: tuple[str, ...]
    now: tuple[str, ...]
    before: tuple[str, ...] | None  # when it was last trusted; None where it never was

    def lines(self, lead: str) -> list[str]:
        """The new commands in full; where there were others before, the difference.

        >>> News("A1", ("make",), ("make",), None).lines("$ ")
        ['$ make']
        >>> News("A1", ("make all",), ("lint", "make all"), ("lint", "make")).lines("$ ")
        ['  A1 changed since it was trusted:', '      lint', '    - make', '    + make all']
        """
        if self.before is None or self.before == self.now:
            return [
                (" " * len(lead) if number else lead) + printable(line)
                for command in self.new
                for number, line in enumerate(command.splitlines() or [""])
            ]
        import difflib  # slow to import, and seldom needed

        old, new = ("\n".join(some).splitlines() for some in (self.before, self.now))
        matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
        lines = [f"  {self.name} changed since it was trusted:"]
        for kind, a, b, c, d in matcher.get_opcodes():
            if kind == "equal":
                lines += [f"      {printable(line)}" for line in old[a:b]]
                continue
            lines += [f"    - {printable(line)}" for line in old[a:b]]
            lines += [f"    + {printable(line)}" for line in new[c:d]]
        return lines


class Trust:
    """The commands that are trusted in the repository whose common Git directory is `common`.

    `clone` is the clone's random id: a repository made anew at an old path starts untrusted.
    """

    def __init__(self, common: Path, clone: str = "") -> None:
        self._common = common.resolve()
        name = sha256(os.fsencode(self._common) + b"\0" + clone.encode()).hexdigest()
        self.path = _data_home() / "gitwaves" / "trust" / f"{name}.json"

    def missing(self, commands: Iterable[str]) -> list[str]:
        """Those of `commands` that are not trusted yet, each once, in their order."""
        known = set(self._load())
        return [command for command in dict.fromkeys(commands) if command not in known]

    def news(self, named: Named) -> list[News]:
        """What of `named` is not trusted yet, each command once, beside what it was when it was."""
        before = self._load_named()
        shown: set[str] = set()
        found = []
        for name, commands in named.items():
            new = [c for c in self.missing(commands) if c not in shown]
            shown.update(new)
            if new:
                old = tuple(before[name]) if name in before else None
                found.append(News(name, tuple(new), tuple(commands), old))
        return found

    def grant(self, named: Named) -> None:
        """Trusts the commands of `named`, besides what is trusted already, and keeps their texts.

        Raises:
            GitwavesError: the store cannot be written.
        """
        commands = [command for some in named.values() for command in some]
        try:
            with self._locked():
                kept = {**self._load_named(), **{name: list(some) for name, some in named.items()}}
                self._save([*dict.fromkeys([*self._load(), *commands])], kept)
        except OSError as error:
            raise GitwavesError(
                f"cannot record trust in {self.path}: {error.strerror or error}",
                "make that folder writable, or set XDG_DATA_HOME to one that is",
            ) from error

    def require(self, named: Named, *, trust_trunk: bool = False) -> None:
        """Makes sure that all commands of `named` may run; `trust_trunk` says so for this once.

        Raises:
            Untrusted: some are new; names them all, with what they were when they were trusted.
        """
        if trust_trunk:
            return
        news = self.news(named)
        if news:
            listed = "\n".join(line for one in news for line in one.lines("  "))
            what = "a command" if sum(len(one.new) for one in news) == 1 else "commands"
            hint = "read them, then run `gitwaves trust`"
            agent = agent_session()
            if agent is not None:
                hint += f" (a person has to: {agent} is set, and agents cannot give trust)"
            raise Untrusted(f"this clone does not trust {what} yet:\n{listed}", hint)

    def _load(self) -> list[str]:
        commands = self._held().get("commands")
        return [c for c in commands if isinstance(c, str)] if isinstance(commands, list) else []

    def _load_named(self) -> dict[str, list[str]]:
        named = self._held().get("named")
        return {
            name: some
            for name, some in (named.items() if isinstance(named, dict) else ())
            if isinstance(some, list) and all(isinstance(c, str) for c in some)
        }

    def _held(self) -> dict[str, Any]:
        try:
            held = loads(self.path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return {}
        except PermissionError as error:
            raise GitwavesError(
                f"cannot read {self.path}: {error.strerror}", "make that file yours and readable"
            ) from error
        except (OSError, ValueError, RecursionError):
            return {}  # what cannot be read trusts nothing
        return held if isinstance(held, dict) else {}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        folder = self.path.parent
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        with (folder / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _save(self, commands: list[str], named: Mapping[str, Sequence[str]]) -> None:
        import tempfile  # slow to import, and seldom needed

        held = {"repository": str(self._common), "commands": commands, "named": named}
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".trust-")
        try:
            with open(handle, "w", encoding="ascii") as file:
                file.write(dumps(held, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def commands_of(cards: Cards) -> dict[str, tuple[str, ...]]:
    """All that may be run for a plan.

    The steps of tasks and merge points, `setup`, the profiles' commands and `on_event`.
    """
    nodes = [*sorted(cards.tasks, key=natural), *sorted(cards.merge_points, key=natural)]
    config = cards.config
    named = steps_named(cards, nodes, setup=True)
    for name in sorted(config.profiles):
        named[f"profile {name}"] = (profile_command(config.profiles[name]),)
    if config.on_event is not None:
        named["on_event"] = (config.on_event,)
    return named


def steps_named(
    cards: Cards, nodes: Iterable[str], *, setup: bool = False
) -> dict[str, tuple[str, ...]]:
    """The commands of the steps of tasks and merge points, and those of `setup`.

    Raises:
        KeyError: a node has no card.
    """
    steps = {str(node): cards.steps_of(node) for node in nodes}
    if setup:
        steps["setup"] = cards.config.setup
    return {name: tuple(s.run for s in some if s.run is not None) for name, some in steps.items()}


def require_steps(
    repo: Repo,
    cards: Cards,
    nodes: Iterable[str],
    *,
    setup: bool = False,
    trust_trunk: bool = False,
) -> None:
    """Makes sure that the steps of tasks and merge points, and those of `setup`, may run here.

    Raises:
        Untrusted: some are new.
    """
    named = steps_named(cards, nodes, setup=setup)
    Trust(repo.common, repo.clone_id()).require(named, trust_trunk=trust_trunk)


def profile_command(profile: Profile) -> str:
    """The text that is trusted for an agent's profile: its commands, after what they get set.

    >>> profile_command(Profile(("claude", "-p"), {"MODEL": "a b"}))
    "MODEL='a b' claude -p"
    """
    import shlex  # slow to import, and needed only where there are profiles

    sets = [f"{name}={shlex.quote(value)}" for name, value in sorted(profile.env.items())]
    commands = [profile.command, profile.resume, profile.open]
    return "; ".join(" ".join([*sets, shlex.join(c)]) for c in commands if c)


def agent_session(env: Mapping[str, str] | None = None) -> str | None:
    """The name of the variable that shows that an agent called us, or None.

    >>> agent_session({"CLAUDECODE": "1"}), agent_session({"GEMINI_CLI": ""})
    ('CLAUDECODE', None)
    """
    environ = os.environ if env is None else env
    return next((name for name in _AGENT_VARIABLES if environ.get(name)), None)


def _data_home() -> Path:
    named = os.environ.get("XDG_DATA_HOME", "")
    # A relative one is to be ignored, says the XDG Base Directory Specification.
    return Path(named) if os.path.isabs(named) else Path.home() / ".local" / "share"
