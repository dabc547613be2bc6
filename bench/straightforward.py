"""The obvious way to write `status`, to be measured beside ours: every card read each time.

    python bench/straightforward.py             # in a repository with a plan

click, ruamel.yaml's round trip, jsonschema, rich, and one `git cat-file --batch`: what the parts of a
plan are usually read, checked and shown with. It counts what each card says of itself, believes it, and
orders nothing.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from io import BytesIO
from pathlib import Path

import click
from jsonschema import Draft202012Validator
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

SCHEMA = Path(__file__).parent.parent / "schemas" / "task.schema.json"


def cards() -> list[bytes]:
    """The cards of all tasks on `main`."""
    listing = ["git", "ls-tree", "-r", "-z", "main", "--", ".workstreams/"]
    listed = subprocess.run(listing, capture_output=True, check=True).stdout.decode()
    rows = [row.split("\t", 1) for row in listed.split("\0") if row]
    oids = [
        head.split()[2]
        for head, path in rows
        if path.count("/") == 2 and not path.endswith(("workstream.yaml", "MP1.yaml"))
    ]
    asked = "".join(f"{oid}\n" for oid in oids).encode()
    reading = ["git", "cat-file", "--batch"]
    said = BytesIO(subprocess.run(reading, input=asked, capture_output=True, check=True).stdout)
    return [said.read(int(said.readline().split()[2]) + 1)[:-1] for _ in oids]


@click.command()
def status() -> None:
    """Counts the tasks by workstream and status."""
    yaml, schema = YAML(), Draft202012Validator(json.loads(SCHEMA.read_text()))
    counts: Counter[tuple[str, str]] = Counter()
    streams: dict[str, None] = {}
    for data in cards():
        card = yaml.load(data)
        schema.validate(card)
        stream = card["id"].partition("T")[0]
        streams[stream] = None
        counts[stream, card["tracking"]["status"]] += 1
    states = sorted({state for _, state in counts})
    table = Table("workstream", *states)
    for stream in streams:
        table.add_row(stream, *(str(counts[stream, state]) for state in states))
    Console().print(table)


if __name__ == "__main__":
    status()
