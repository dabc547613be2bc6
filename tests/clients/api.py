"""A model API on the loopback whose "model" plays a script: real agent clients run on it, offline.

    python -P -m tests.clients.api [PORT]       # prints its address; PORT 0, the default, picks one

It speaks the dialects of `tests.clients.dialects`, streamed, as the clients ask. Standard library
alone, bound to 127.0.0.1, no account.

The script is a line of the prompt, and so can stand in the spec of a task's card:

    PLAY: [["git status", {"write": "a/x.txt", "text": "ok"}, {"say": "Done."}], ["true"]]

A list for each attempt at a task (a brief says which it is; the last one goes on for those after it),
and in it a list of moves:

    "COMMAND"                            run in the client's own shell tool
    {"read": PATH}                       read a file with the client's own tool for that
    {"write": PATH, "text": TEXT}        write one; most want to have read what they write over
    {"call": TOOL, "with": {...}}        call any tool
    {"calls": [MOVE, ...]}               several of these at once
    {"say": TEXT}                        end the turn; whatever is said to it next, it goes on after this
    {"error": STATUS, "times": N}        answer so N times (1), then go on
    {"limit": SECONDS, "times": N}       refuse for too much use (429), and say when that ends

Moves that are used up end in "Done.". What was played is read off the conversation in each request,
so any number of clients can share one server; only failures are counted here.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.clients.dialects import Asked, Call, Dialect, Json, dialect_of

# --- the script --------------------------------------------------------------------------------


def moves(text: str) -> list[Any]:
    """The moves for the attempt that a prompt is about."""
    found = re.findall(r"^[ \t]*PLAY: (\[.*)$", text, re.MULTILINE)
    if not found:
        return []
    attempts = json.JSONDecoder().raw_decode(found[-1])[0]
    said = re.search(r"This is attempt (\d+)", text)
    number = int(said[1]) if said else 1
    return list(attempts[min(number, len(attempts)) - 1])


class Model:
    """Decides what is answered; counts failures, as no conversation remembers them."""

    def __init__(self) -> None:
        self._failed: Counter[tuple[str, int]] = Counter()
        self._guard = threading.Lock()
        self.asked: list[Asked] = []

    def move(self, asked: Asked) -> Any:
        """The next move; a failure that was played often enough is passed over."""
        with self._guard:
            self.asked.append(asked)
            if not asked.tools:
                return {"say": "A title"}
            whole = moves(asked.script)
            at = 0
            left = asked.played
            for at, move in enumerate(whole):  # failures leave no trace in the conversation
                fails = isinstance(move, dict) and ("error" in move or "limit" in move)
                if fails and left == 0:
                    # the whole text grows when a session is gone on with
                    known = (asked.script.rpartition("PLAY: ")[2].partition("\n")[0], at)
                    self._failed[known] += 1
                    if self._failed[known] <= int(move.get("times", 1)):
                        return move
                elif not fails and left == 0:
                    return move
                elif not fails:
                    left -= 1
            return {"say": "Done."}


def calls_of(move: Any, played: int, dialect: Dialect) -> list[Call]:
    """The tool calls that a move is made of."""
    several = move["calls"] if isinstance(move, dict) and "calls" in move else [move]
    found = []
    for number, one in enumerate(several):
        if isinstance(one, str):
            tool, given = dialect.shell(one)
        elif "read" in one:
            tool, given = dialect.read(str(one["read"]))
        elif "write" in one:
            tool, given = dialect.write(str(one["write"]), str(one.get("text", "")))
        else:
            tool, given = str(one["call"]), dict(one.get("with", {}))
        found.append(Call(f"move-{played}-{number}", tool, given))
    return found


# --- the server --------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def do_HEAD(self) -> None:
        self._json(200, {})

    def do_GET(self) -> None:
        models = [{"id": "script", "type": "model", "object": "model", "display_name": "Script"}]
        self._json(200, {"object": "list", "data": models, "models": [], "has_more": False})

    def do_POST(self) -> None:
        body = json.loads(self._body() or b"{}")
        dialect = dialect_of(self.path, body)
        try:
            if dialect is None:  # counting tokens, telemetry
                self._json(200, {"input_tokens": 100, "totalTokens": 100})
            else:
                self._answer(dialect)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer(self, dialect: Dialect) -> None:
        asked = dialect.asked()
        move = self.model.move(asked)
        if isinstance(move, dict) and "error" in move:
            status = int(move["error"])
            self._json(status, dialect.error(status, f"the script says {status}"))
            return
        if isinstance(move, dict) and "limit" in move:
            end = int(time.time()) + int(move["limit"])
            self._json(429, dialect.error(429, f"usage limit reached|{end}"), {"retry-after": "1"})
            return
        text = str(move["say"]) if isinstance(move, dict) and "say" in move else None
        calls = [] if text is not None else calls_of(move, asked.played, dialect)
        if dialect.body.get("stream") or "stream" in self.path:
            self._stream(dialect.said(text, calls))
        else:
            self._json(200, dialect.whole(text, calls))

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        data = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _json(self, status: int, value: Json, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        more = {"content-type": "application/json", "content-length": str(len(data))}
        for name, said in {**more, **(headers or {})}.items():
            self.send_header(name, said)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _stream(self, events: Iterable[tuple[str, Json]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, (name, event) in enumerate(events):
            kind = {"type": name, "sequence_number": number} if name else {}
            lead = f"event: {name}\n" if name else ""
            data = f"{lead}data: {json.dumps({**kind, **event})}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


class Server:
    """The API, served by a thread while it is entered."""

    def __init__(self, port: int = 0) -> None:
        self.model = Model()
        handler = type("Handler", (_Handler,), {"model": self.model})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


if __name__ == "__main__":
    with Server(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as server:
        print(server.address, flush=True)
        threading.Event().wait()
