"""Which commands this clone has been told to run: kept outside the repository, by their text.

It stops surprise execution and is no sandbox. Whoever may write the user's files may write this.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gitwaves.errors import GitwavesError, Untrusted
from gitwaves.model import Cards, Profile, natural, printable

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


class Trust:
    """The commands that are trusted in the repository whose common Git directory is `common`.

    `clone` is the clone's random id: a repository made anew at an old path starts untrusted.
    """

    def __init__(self, common: Path, clone: str = "") -> None:
        self._common = common.resolve()
        name = hashlib.sha256(os.fsencode(self._common) + b"\0" + clone.encode()).hexdigest()
        self.path = _data_home() / "gitwaves" / "trust" / f"{name}.json"

    def missing(self, commands: Iterable[str]) -> list[str]:
        """Those of `commands` that are not trusted yet, each once, in their order."""
        known = set(self._load())
        return [command for command in dict.fromkeys(commands) if command not in known]

    def grant(self, commands: Iterable[str]) -> None:
        """Trusts `commands`, besides what is trusted already.

        Raises:
            GitwavesError: the store cannot be written.
        """
        try:
            with self._locked():
                self._save([*dict.fromkeys([*self._load(), *commands])])
        except OSError as error:
            raise GitwavesError(
                f"cannot record trust in {self.path}: {error.strerror or error}",
                "make that folder writable, or set XDG_DATA_HOME to one that is",
            ) from error

    def require(self, commands: Iterable[str], *, trust_trunk: bool = False) -> None:
        """Makes sure that all of `commands` may run; `trust_trunk` says so for this once.

        Raises:
            Untrusted: some are new; names them all.
        """
        if trust_trunk:
            return
        new = self.missing(commands)
        if new:
            listed = "\n".join(f"  {printable(command)}" for command in new)
            what = "a command" if len(new) == 1 else "commands"
            hint = "read them, then run `gitwaves trust`"
            agent = agent_session()
            if agent is not None:
                hint += f" (a person has to: {agent} is set, and agents cannot give trust)"
            raise Untrusted(f"this clone does not trust {what} yet:\n{listed}", hint)

    def _load(self) -> list[str]:
        try:
            held = json.loads(self.path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise GitwavesError(
                f"cannot read {self.path}: {error.strerror}", "make that file yours and readable"
            ) from error
        except (OSError, ValueError, RecursionError):
            return []  # what cannot be read trusts nothing
        commands = held.get("commands") if isinstance(held, dict) else None
        return [c for c in commands if isinstance(c, str)] if isinstance(commands, list) else []

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        folder = self.path.parent
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        with (folder / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _save(self, commands: list[str]) -> None:
        held = {"repository": str(self._common), "commands": commands}
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".trust-")
        try:
            with open(handle, "w", encoding="ascii") as file:
                json.dump(held, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def commands_of(cards: Cards, nodes: Iterable[str] | None = None) -> tuple[str, ...]:
    """All that may be run for `nodes` (tasks and merge points; None: all of them), each once.

    The steps of the nodes, `setup`, the profiles' commands and `on_event`.

    Raises:
        KeyError: a node has no card.
    """
    if nodes is None:
        nodes = [*sorted(cards.tasks, key=natural), *sorted(cards.merge_points, key=natural)]
    config = cards.config
    steps = [step for node in nodes for step in cards.steps_of(node)]
    found = [step.run for step in (*steps, *config.setup) if step.run is not None]
    found += [profile_command(config.profiles[name]) for name in sorted(config.profiles)]
    if config.on_event is not None:
        found.append(config.on_event)
    return tuple(dict.fromkeys(found))


def profile_command(profile: Profile) -> str:
    """The text that is trusted for an agent's profile: its command, after what it sets.

    >>> profile_command(Profile(("claude", "-p"), {"MODEL": "a b"}))
    "MODEL='a b' claude -p"
    """
    sets = [f"{name}={shlex.quote(value)}" for name, value in sorted(profile.env.items())]
    return " ".join([*sets, shlex.join(profile.command)])


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
