"""Signed evidence: SSH signatures by the key that Git signs with, checked against trunk's file.

A signature covers what was found (task, code tree, spec digest, steps and how they ended, inputs)
and is made by the process that ran the steps. The commit is left out: it has to have that code
tree, and an amend or a rebase that keeps the tree moves it. So a hook, which records what passed
earlier, needs no key, and signs nothing that somebody else wrote into a receipt.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gitwaves.caches import Cache, key_of
from gitwaves.cards import load_config
from gitwaves.errors import GitwavesError, Refused
from gitwaves.git import Repo, clean_env
from gitwaves.model import CONFIG_PATH, Config, Evidence, Oid, Run, printable
from gitwaves.record import Record

NAMESPACE = "gitwaves"
_HEAD, _FOOT = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_PROBE = b"gitwaves: may this key sign evidence?\n"
_AT_ONCE = 8  # checks that run side by side


def signed_text(
    node: str, tree: Oid, spec: str, runs: Iterable[Run], inputs: Iterable[Oid] = ()
) -> bytes:
    """What a signature covers, in canonical form.

    >>> signed_text("A1", Oid("d1"), "sha256:0", [Run("make", 0, 1.5, "sha256:1")])[:42]
    b'{"inputs":[],"node":"A1","runs":[{"exit":0'
    """
    said = {
        "node": node,
        "tree": tree,
        "spec": spec,
        "runs": [
            {"run": r.run, "exit": r.exit, "seconds": float(r.seconds), "log": r.log} for r in runs
        ],
        "inputs": list(inputs),
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


# --- whose signatures count --------------------------------------------------------------------


class Rule(Record):
    """Whose signatures count: the keys of a file as trunk has it."""

    path: str | None = None  # None: evidence needs no signature
    keys: bytes | None = None  # None: trunk has no such file


def rule_at(repo: Repo, commit: Oid, config: Config | None = None) -> Rule:
    """The rule that trunk had at one of its commits."""
    if config is None:
        config, _ = load_config(repo.read(commit, CONFIG_PATH) or b"", CONFIG_PATH)
    path = config.allowed_signers
    return Rule(path, repo.read(commit, path)) if path else Rule()


def rules(repo: Repo, config: Config, trunk: Oid) -> tuple[tuple[Rule, Oid | None], ...]:
    """The rules of trunk's own line, the one in force first, each with the commit it began at.

    Evidence that had landed before a rule began was checked by an older one. Where none is in
    force, that is all: no history is read.
    """
    now = rule_at(repo, trunk, config)
    if now.path is None:
        return ((now, None),)
    paths = {now.path}
    for oid in repo.rev_list("--first-parent", trunk, paths=[CONFIG_PATH]):
        old = rule_at(repo, oid)
        paths |= {old.path} if old.path else set()
    literal = [CONFIG_PATH, *sorted(paths)]
    found: list[tuple[Rule, Oid | None]] = [(now, None)]
    for oid in repo.rev_list("--first-parent", trunk, paths=literal):
        rule = rule_at(repo, oid)
        if rule != found[-1][0]:
            found.append((rule, None))
        found[-1] = (rule, oid)
    before = repo.require_commit(found[-1][1] or trunk).parents
    if before and found[-1][0].path is not None:
        found.append((Rule(), None))  # trunk had no plan then
    return tuple(found)


# --- signing -----------------------------------------------------------------------------------


class Signer:
    """Signs evidence with the key that Git's own settings name."""

    def __init__(self, repo: Repo) -> None:
        self._program = _program(repo)
        self._key = _key(repo)

    def sign(
        self, node: str, tree: Oid, spec: str, runs: Iterable[Run], inputs: Iterable[Oid] = ()
    ) -> str:
        """The signature of a piece of evidence: one line of base64.

        Raises:
            GitwavesError: the key cannot be used.
        """
        return self.signature(signed_text(node, tree, spec, runs, inputs))

    def signature(self, text: bytes) -> str:
        """The signature of a text.

        Raises:
            GitwavesError: the key cannot be used.
        """
        import tempfile  # slow to import, and seldom needed

        with tempfile.TemporaryDirectory() as folder:
            path = self._key
            if path.startswith(("key::", "ssh-")):
                file = Path(folder) / "key.pub"  # the agent has the other half
                file.write_text(path.removeprefix("key::") + "\n")
                path = str(file)
            argv = [self._program, "-Y", "sign", "-n", NAMESPACE, "-f", path]
            done = _run(argv, text)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            why = next(
                (s for s in reversed(said) if not s.startswith("Signing")), "no reason given"
            )
            raise GitwavesError(
                f"evidence cannot be signed with {self._key}: {why}",
                "load it with `ssh-add`, or name another key: git config user.signingKey PATH",
            )
        lines = done.stdout.decode("ascii").splitlines()
        return "".join(lines[lines.index(_HEAD) + 1 : lines.index(_FOOT)])


def signer_for(repo: Repo, config: Config, trunk: Oid) -> Signer | None:
    """What signs evidence here; None where nobody asks for it.

    That is where trunk has `allowed_signers`, or Git signs commits with an SSH key. Tried before a
    step is run, so that nothing is found out after it.

    Raises:
        GitwavesError: there is no key, or it cannot be used.
        Refused: what it signs would not count.
    """
    rule = rule_at(repo, trunk, config)
    if rule.path is None and not _signs_commits(repo):
        return None
    signer = Signer(repo)
    signature = signer.signature(_PROBE)
    if rule.path is not None:
        found = Signatures(repo, fresh=True).of_texts([(_PROBE, signature, None, rule)])[0]
        if found.problem:
            raise Refused(
                f"evidence signed here would not count: {found.problem}",
                f"have the key added to {rule.path} on {config.trunk}, or name another one: "
                "git config user.signingKey PATH",
            )
    return signer


def _signs_commits(repo: Repo) -> bool:
    signs = repo.config("commit.gpgsign", "--type=bool") == "true"
    return signs and repo.config("gpg.format") == "ssh"


def _program(repo: Repo) -> str:
    return repo.config("gpg.ssh.program", "--type=path") or "ssh-keygen"


def _key(repo: Repo) -> str:
    """The key that Git signs with: a path, or a public key itself, as `git help config` has it.

    Raises:
        GitwavesError: Git's settings name none.
    """
    named = repo.config("user.signingKey") or ""
    if named.startswith(("key::", "ssh-")):
        return named
    if named:
        path = Path(repo.config("user.signingKey", "--type=path") or named)
        path = path if path.is_absolute() or repo.top is None else repo.top / path
        # one that GPG knows by its id is not meant for SSH
        if repo.config("gpg.format") == "ssh" or path.is_file():
            return str(path)
    command = repo.config("gpg.ssh.defaultKeyCommand")
    if command:
        done = _run(shlex.split(os.path.expanduser(command)), b"")
        first = done.stdout.decode(errors="replace").strip().partition("\n")[0]
        if done.returncode == 0 and first.startswith(("key::", "ssh-")):
            return first
        raise GitwavesError(
            f"`{command}` (gpg.ssh.defaultKeyCommand) names no key",
            "its first line has to be `key::` and a public key; `ssh-add -L` lists those loaded",
        )
    raise GitwavesError(
        "evidence has to be signed here, and Git has no SSH key to sign with",
        "git config gpg.format ssh && git config user.signingKey ~/.ssh/id_ed25519.pub",
    )


def _run(argv: Sequence[str], stdin: bytes, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a program that may ask nothing: it has no terminal and no window to ask on."""
    clean = {k: v for k, v in clean_env().items() if k not in {"DISPLAY", "SSH_ASKPASS"}}
    try:
        return subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            env={**clean, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never", **env},
            start_new_session=True,
            check=False,
        )
    except OSError as error:
        raise GitwavesError(
            f"cannot run {argv[0]}: {error.strerror}",
            "signatures need OpenSSH 8.2 or newer; `gpg.ssh.program` names another ssh-keygen",
        ) from error


# --- checking ----------------------------------------------------------------------------------


class Signed(Record):
    """Who signed a piece of evidence, or why its signature does not count."""

    who: str = ""  # as the file of keys calls them
    problem: str = ""


class _Bad(Exception):
    pass


Question = tuple[bytes, str | None, str | None, Rule]  # text, signature, when it was made, rule


class Signatures:
    """Checks signatures; what counted is kept on disk, by a digest of all that it hangs on.

    Args:
        fresh: believe nothing that was kept.
    """

    def __init__(self, repo: Repo, *, fresh: bool = False) -> None:
        self.fresh = fresh
        self._repo = repo
        self._cache = Cache(repo.state_dir / "signatures")
        self._known: dict[bytes, Signed] = {}
        self._names: dict[tuple[bytes, bytes], str] = {}

    def of(self, asked: Sequence[tuple[str, Evidence, str | None, Rule]]) -> list[Signed]:
        """Who signed each piece of evidence (node, evidence, when, rule).

        Raises:
            GitwavesError: there is no ssh-keygen.
        """
        return self.of_texts(
            [
                (signed_text(node, e.tree, e.spec, e.runs, e.inputs), e.signature, when, rule)
                for node, e, when, rule in asked
            ]
        )

    def of_texts(self, asked: Sequence[Question]) -> list[Signed]:
        """Who signed each text.

        Raises:
            GitwavesError: there is no ssh-keygen.
        """
        keys = [_key_of(question) for question in asked]
        left = {k: q for k, q in zip(keys, asked, strict=True) if not self._recall(k)}
        if left:
            import tempfile  # slow to import, and seldom needed, as the other
            from concurrent.futures import ThreadPoolExecutor

            with tempfile.TemporaryDirectory() as folder:
                checker = _Checker(_program(self._repo), Path(folder), self._names)
                with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
                    found = list(pool.map(checker.check, left.values()))
            for key, signed in zip(left, found, strict=True):
                self._known[key] = signed
                if not signed.problem:  # a failure may be the machine's: it is looked at again
                    self._cache.add(key, signed.who)
            self._cache.save()
        return [self._known[key] for key in keys]

    def _recall(self, key: bytes) -> bool:
        if key in self._known:
            return True
        who = None if self.fresh else self._cache.known(key)
        if isinstance(who, str):
            self._known[key] = Signed(who)
        return isinstance(who, str)


def _key_of(question: Question) -> bytes:
    text, signature, when, rule = question
    parts = (signature or "", when or "", rule.path or "")
    return key_of(text, *(part.encode() for part in parts), rule.keys or b"")


class _Checker:
    """Runs ssh-keygen, one process a signature and one more for each key."""

    def __init__(self, program: str, folder: Path, names: dict[tuple[bytes, bytes], str]) -> None:
        self._program, self._folder, self._names = program, folder, names

    def check(self, question: Question) -> Signed:
        try:
            return Signed(who=self._who(*question))
        except _Bad as error:
            return Signed(problem=str(error))

    def _who(self, text: bytes, signature: str | None, when: str | None, rule: Rule) -> str:
        if not signature:
            raise _Bad("its evidence is not signed")
        if rule.keys is None:
            raise _Bad(f"{rule.path}, the file of keys, is not on trunk")
        key = _public_key(signature)
        name = key_of(rule.keys, text, signature.encode()).hex()
        keys, file = self._folder / f"{name}.keys", self._folder / f"{name}.sig"
        keys.write_bytes(rule.keys)
        file.write_text(f"{_HEAD}\n{signature}\n{_FOOT}\n")
        timed = _time(when) if b"valid-" in rule.keys else {}
        argv = [self._program, "-Y"]
        files = ["-f", str(keys), "-s", str(file), *(f"-O{k}={v}" for k, v in timed.items())]
        who = None if timed else self._names.get((rule.keys, key))
        if who is None:
            done = _run([*argv, "find-principals", *files], b"", TZ="UTC")
            if done.returncode or not done.stdout.strip():
                raise _Bad(f"it is signed with a key that is not in {rule.path}")
            who = done.stdout.decode(errors="replace").splitlines()[0]
            if not timed:
                self._names[rule.keys, key] = who
        done = _run([*argv, "verify", "-n", NAMESPACE, "-I", who, *files], text, TZ="UTC")
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            if not said or "incorrect signature" in said[-1]:
                raise _Bad("its signature is not that of this evidence")
            raise _Bad(f"{rule.path} does not let {printable(who)} sign it: {printable(said[-1])}")
        return printable(who)


def _time(when: str | None) -> Mapping[str, str]:
    """The moment at which keys that are valid for a while have to be: when it was signed."""
    return {"verify-time": "".join(filter(str.isdigit, when))[:14]} if when else {}


def _public_key(signature: str) -> bytes:
    """The key inside a signature (PROTOCOL.sshsig: magic, version, then the key)."""
    try:
        data = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    length = int.from_bytes(data[10:14], "big")
    if data[:6] != b"SSHSIG" or not 0 < length <= len(data) - 14:
        raise _Bad("its signature cannot be read")
    return data[14 : 14 + length]
