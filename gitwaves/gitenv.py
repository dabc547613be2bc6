"""The environment and settings in which git runs; imports next to nothing, for `quick`."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# What `git rev-parse --local-env-vars` lists, and what else would make Git look elsewhere, run
# something or sign as somebody else. A test suite that inherited these set core.bare on the
# repository around it.
LEAKS = frozenset(
    """GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CONFIG GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT
    GIT_OBJECT_DIRECTORY GIT_DIR GIT_WORK_TREE GIT_IMPLICIT_WORK_TREE GIT_GRAFT_FILE
    GIT_INDEX_FILE GIT_NO_REPLACE_OBJECTS GIT_REPLACE_REF_BASE GIT_PREFIX GIT_SHALLOW_FILE
    GIT_COMMON_DIR GIT_INTERNAL_SUPER_PREFIX GIT_QUARANTINE_PATH GIT_NAMESPACE GIT_EXTERNAL_DIFF
    GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_AUTHOR_DATE GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL
    GIT_COMMITTER_DATE GIT_LITERAL_PATHSPECS GIT_GLOB_PATHSPECS GIT_NOGLOB_PATHSPECS
    GIT_ICASE_PATHSPECS GIT_REFLOG_ACTION GIT_EXEC_PATH GIT_TRACE""".split()
)
# The index of the commit that a hook is asked about: `commit -a` and `commit -- path` use others.
GIT_HOOK_INDEX = os.environ.get("GIT_INDEX_FILE", "")
# Where Git keeps what is being pushed until the hook that is asked about it has said yes.
_QUARANTINE = ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH")
_seen: dict[str, str] = {}
IDENTITY = frozenset(
    {"GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"}
)

SAFE = (
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.quotePath=false",
    "-c", "safe.bareRepository=explicit",
    "-c", "core.fsync=committed,reference",
    "-c", "advice.detachedHead=false",
    "-c", "merge.renames=true",
)  # fmt: skip

RUN = "GITWAVES_RUN"  # the mark of an agent's run, in its environment
# How `git for-each-ref` is asked for what references hold.
REFERENCES = "--format=%(refname)%00%(objectname)%00%(objecttype)"
# Only to find the repository: what is found is then named with --git-dir.
BARE_OK = ("-c", "safe.bareRepository=all")


def clean_env(*, keep_identity: bool = False) -> dict[str, str]:
    """The environment without anything that ties a process to the Git that called us."""
    leaks = LEAKS - IDENTITY if keep_identity else LEAKS
    return {
        key: value
        for key, value in os.environ.items()
        if key not in leaks and not key.startswith(("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"))
    }


def see_quarantine() -> None:
    """Lets git see what is being pushed, for the rest of this process: for `pre-receive` alone."""
    _seen.update({name: os.environ[name] for name in _QUARANTINE if name in os.environ})


def git_env(env: Mapping[str, str] | None = None) -> dict[str, str]:
    return {
        **clean_env(keep_identity=True),
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",  # a file may be called `:/`
        # What a commit is does not hang on what this clone puts in its place.
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_GRAFT_FILE": os.devnull,
        "GITWAVES_HOOK": "1",  # Git's config-based hooks run whatever core.hooksPath says
        **_seen,
        **(env or {}),
    }


def packs(common: str) -> bytes:
    """The names of a repository's packs: each says what it holds, and none changes."""
    try:
        names = os.listdir(f"{common}/objects/pack")
    except OSError:
        return b""
    return "\n".join(sorted(name for name in names if name.endswith(".pack"))).encode()


def index_stamp(admin: str) -> bytes:
    """What changes whenever the index of a checkout is written; `admin` is its Git directory."""
    try:
        stat = os.stat(f"{admin}/index")
    except OSError:
        return b""
    return f"{stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}".encode()


def git_stamp() -> bytes:
    """What is another where another git is installed."""
    if git := _git():
        stat = os.stat(git)
        return f"{git} {stat.st_size} {stat.st_mtime_ns}".encode(errors="surrogateescape")
    return b""


def _git() -> str:
    """The git that PATH leads to; nothing where there is none."""
    # `os.get_exec_path` imports `warnings`
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if os.access(git := f"{folder or '.'}/git", os.X_OK) and os.path.isfile(git):
            return git
    return ""


def settings_files(common: str) -> list[str]:
    """The files that Git reads settings from, if they are there and include no others.

    See `git help config`, FILES. A Git that was built to read another one for the whole system says
    so by `--show-origin`, once that holds something.
    """
    env = os.environ.get
    system = env("GIT_CONFIG_SYSTEM")
    if system is not None:  # empty: there is none
        found = [system] if system else []
    else:
        found = ["/etc/gitconfig", f"{os.path.dirname(os.path.dirname(_git()))}/etc/gitconfig"]
    home = env("HOME", "")
    own = [f"{env('XDG_CONFIG_HOME') or f'{home}/.config'}/git/config", f"{home}/.gitconfig"]
    shared = env("GIT_CONFIG_GLOBAL")
    return [*found, *(own if shared is None else [shared]), f"{common}/config"]


def user_attributes(settings: bytes) -> str:
    """The user's own file of attributes; `settings` are as `config --list -z` prints them."""
    return _user_file(settings, b"core.attributesfile", "attributes")


def user_excludes(settings: bytes) -> str:
    """The user's own file of what is to be ignored; `settings` likewise."""
    return _user_file(settings, b"core.excludesfile", "ignore")


def _user_file(settings: bytes, key: bytes, name: str) -> str:
    for entry in reversed(settings.split(b"\0")):
        said, _, value = entry.partition(b"\n")
        if said == key:
            return os.path.expanduser(os.fsdecode(value))
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return f"{folder}/git/{name}"
