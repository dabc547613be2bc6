"""The ready-made CI jobs: their steps are run as scripts, on a pull request of a bare remote."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.repo import Repo
from tests.test_review import edit, plan_files

ROOT = Path(__file__).parent.parent
ACTION: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "action.yml")
GITLAB: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "ci" / "gitwaves.gitlab-ci.yml")
HOOKS: list[dict[str, Any]] = YAML(typ="safe", pure=True).load(ROOT / ".pre-commit-hooks.yaml")


@dataclass(frozen=True, slots=True)
class Job:
    """A checkout as a runner makes it, of the pull request `change` to `main`."""

    repo: Repo
    head: str
    temp: Path

    def bash(self, script: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(self.temp), os.environ["PATH"]])
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=self.repo.path,
            env={**os.environ, **env, "PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def job(repo: Repo, tmp_path: Path) -> Job:
    origin = Repo(tmp_path)
    origin.git("init", "-q", "--bare", "-b", "main", "origin.git")
    for path, data in plan_files().items():
        repo.write(path, data)
    repo.commit("Plan")
    repo.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    repo.git("push", "-q", "origin", "main")
    repo.git("switch", "-qc", "change")
    edit(repo, "WS-A/A1.yaml", "make test-ledger", "make test")
    head = repo.commit("Test more")
    repo.git("switch", "-q", "main")
    edit(repo, "WS-B/B1.yaml", "title: Routes", "title: Paths")
    repo.commit("Meanwhile on main")
    repo.git("switch", "-q", "--detach")
    repo.git("merge", "-q", "--no-edit", head)
    repo.git("push", "-q", "origin", "main", "change", "HEAD:refs/pull/1/merge")

    checkout = Repo.init(tmp_path / "checkout")  # as a runner does: of the merge, detached
    checkout.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    checkout.git("fetch", "-q", "origin", "+refs/pull/1/merge:refs/remotes/pull/1/merge")
    checkout.git("checkout", "-q", "--detach", "refs/remotes/pull/1/merge")
    temp = tmp_path / "bin"
    temp.mkdir()
    script(temp / "gitwaves", f'exec "{sys.executable}" -m gitwaves "$@"')
    script(temp / "gh", f'echo "$@" >>{temp}/gh.log; test "$2" != --paginate || cat {temp}/ours')
    (temp / "ours").touch()
    return Job(checkout, head, temp)


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def github(job: Job, **event: str) -> tuple[int, str]:
    """Runs the steps of the Action but for the first; its exit code, and the summary of the job."""
    output, summary = job.temp / "output", job.temp / "summary"
    output.touch()
    summary.touch()
    values = {
        "inputs.base || github.base_ref": "main",
        "github.event.pull_request.head.sha || github.sha": job.head,
        "github.head_ref || github.ref_name": "change",
        "github.event.pull_request.number": "1",
        "github.repository": "shop/plan",
        "inputs.token": "secret",
        **event,
    }
    for step in ACTION["runs"]["steps"][1:]:
        said = dict(line.split("=", 1) for line in output.read_text().splitlines())
        known = {**values, **{f"steps.review.outputs.{key}": text for key, text in said.items()}}
        env = {
            name: known[text.removeprefix("${{ ").removesuffix(" }}")]
            for name, text in step["env"].items()
        }
        env |= {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
        done = job.bash(step["run"], {**env, "RUNNER_TEMP": str(job.temp)})
        if done.returncode:
            return done.returncode, summary.read_text() + done.stderr
    return 0, summary.read_text()


def test_the_action(job: Job) -> None:
    code, summary = github(job)
    assert code == 0, summary
    assert summary.startswith("### Plan: 1 task changed, 1 with other commands than before\n")
    assert "- make test-ledger\n+ make test\n" in summary
    assert "Paths" not in summary  # what main did meanwhile is no change of this one
    asked, said = (job.temp / "gh.log").read_text().splitlines()
    comments = "repos/shop/plan/issues/1/comments"
    assert asked.startswith(f"api --paginate {comments} --jq ")
    body = f"-F body=@{job.temp}/gitwaves-review.md.marked"
    assert said == f"api --silent --method POST {comments} {body}"
    comment = (job.temp / "gitwaves-review.md.marked").read_text()
    assert comment == f"<!-- gitwaves review -->\n{summary}"


def test_the_comment_of_the_action_is_its_own(job: Job) -> None:
    """A second run changes what the first one wrote, and no other comment of the same account."""
    (job.temp / "ours").write_text("42\n43\n")
    code, summary = github(job)
    assert code == 0, summary
    said = (job.temp / "gh.log").read_text().splitlines()[-1]
    assert said.startswith("api --silent --method PATCH repos/shop/plan/issues/comments/42 -F ")


def test_without_leave_to_comment_the_action_still_checks(job: Job) -> None:
    script(job.temp / "gh", "exit 1")
    assert github(job)[0] == 0


def test_the_action_says_what_is_broken_before_it_fails(job: Job) -> None:
    job.repo.git("checkout", "-q", job.head)
    edit(job.repo, "WS-A/A1.yaml", "depends_on: []", "depends_on: [Z1]")
    broken = job.repo.commit("Break the plan")
    code, summary = github(job, **{"github.event.pull_request.head.sha || github.sha": broken})
    assert code != 0
    assert "the plan is broken" in summary
    assert "A1 depends on Z1: there is no such id" in summary


def test_nothing_of_an_event_stands_in_a_script() -> None:
    """A branch may be called `$(rm -rf .)`: expressions go through the environment only."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]


def test_the_gitlab_job(job: Job) -> None:
    env = {
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "change",
        "CI_COMMIT_SHA": job.head,
    }
    first, *steps = GITLAB["gitwaves"]["script"]
    assert first.startswith("pip install ")
    done = job.bash("\n".join(steps), env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("### Plan: 1 task changed")
    assert job.repo.read("gitwaves-review.md") in done.stdout


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_the_hooks_of_pre_commit(hook: dict[str, Any], repo: Repo) -> None:
    for path, data in plan_files().items():
        repo.write(path, data)
    repo.commit("Plan")
    program, *args = hook["entry"].split()
    assert program == "gitwaves"
    assert re.search(hook["files"], ".workstreams/WS-A/A1.yaml")
    assert repo.gw(*args).code == 0
    edit(repo, "WS-A/A1.yaml", "depends_on: []", "depends_on: [Z1]")
    repo.git("add", "-A")
    assert repo.gw(*args).code == 1
