"""A model API on the loopback whose "model" plays a script: real agent clients run on it, offline.

    python -P -m tests.clients.api [PORT]       # prints its address; PORT 0, the default, picks one

Three dialects: Anthropic Messages (Claude Code), OpenAI Responses (Codex), Gemini's generateContent;
streamed, as the clients ask. Standard library alone, bound to 127.0.0.1, no account.

The script is a line of the prompt, and so can stand in the spec of a task's card:

    PLAY: [["git status", {"write": "a/x.txt", "text": "ok"}, {"say": "Done."}], ["true"]]

A list for each attempt at a task (a brief says which it is; the last one goes on for those after it),
and in it a list of moves:

    "COMMAND"                            run in the client's own shell tool
    {"write": PATH, "text": TEXT}        write a file with the client's own tool for that
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
_MOVE = re.compile(r"move-(\d+)-(\d+)")
USAGE = (1000, 50)  # tokens in and out, of every answer


# --- the script --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, whatever its dialect: what was said last with a script, and what came of it."""

    script: str  # the text with the script; empty where there is none
    played: int  # moves since then
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one of the client's tools."""

    id: str
    tool: str
    given: Json


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
                    self._failed[asked.script, at] += 1
                    if self._failed[asked.script, at] <= int(move.get("times", 1)):
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
        elif "write" in one:
            tool, given = dialect.write(str(one["write"]), str(one.get("text", "")))
        else:
            tool, given = str(one["call"]), dict(one.get("with", {}))
        found.append(Call(f"move-{played}-{number}", tool, given))
    return found


# --- dialects ----------------------------------------------------------------------------------


class Dialect:
    """What a client asks, and how it is answered."""

    def __init__(self, body: Json) -> None:
        self.body = body

    def asked(self) -> Asked:
        raise NotImplementedError

    def shell(self, command: str) -> tuple[str, Json]:
        raise NotImplementedError

    def write(self, path: str, text: str) -> tuple[str, Json]:
        raise NotImplementedError

    def said(self, text: str | None, calls: Sequence[Call]) -> Iterator[tuple[str, Json]]:
        """The events of an answer, each with its name."""
        raise NotImplementedError

    def whole(self, text: str | None, calls: Sequence[Call]) -> Json:
        """The answer where it is not streamed."""
        raise NotImplementedError

    @staticmethod
    def error(status: int, text: str) -> Json:
        kind = "rate_limit_error" if status == 429 else "api_error"
        return {"type": "error", "error": {"type": kind, "message": text, "code": status}}


def _texts(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


def _follow(said: Iterable[tuple[str, str, Iterable[str]]]) -> tuple[str, int]:
    """The last text with a script in it, and how many moves were played since.

    Args:
        said: in their order, who spoke (`user`, `model`), what, and the ids of the calls they made.
    """
    script, seen, answers = "", set[str](), 0
    for who, text, ids in said:
        if who == "user" and re.search(r"^[ \t]*PLAY: \[", text, re.MULTILINE):
            script, seen, answers = text, set(), 0
        elif who == "model":
            seen |= {match[1] for i in ids if (match := _MOVE.search(i))}
            answers += bool(text.strip())
    return script, len(seen) + answers


class Anthropic(Dialect):
    def asked(self) -> Asked:
        def spoken() -> Iterator[tuple[str, str, list[str]]]:
            for message in self.body.get("messages", []):
                who = "model" if message["role"] == "assistant" else "user"
                content = message["content"]
                parts = content if isinstance(content, list) else []
                ids = [str(p["id"]) for p in parts if p.get("type") == "tool_use"]
                results = any(p.get("type") == "tool_result" for p in parts)
                yield who, "" if results else _texts(content), ids

        script, played = _follow(spoken())
        tools = tuple(str(t.get("name")) for t in self.body.get("tools") or ())
        return Asked(script, played, tools)

    def shell(self, command: str) -> tuple[str, Json]:
        return "Bash", {"command": command, "description": "as the script says"}

    def write(self, path: str, text: str) -> tuple[str, Json]:
        return "Write", {"file_path": path, "content": text}

    def whole(self, text: str | None, calls: Sequence[Call]) -> Json:
        parts: list[Json] = [
            {"type": "tool_use", "id": call.id, "name": call.tool, "input": call.given}
            for call in calls
        ]
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": self.body.get("model"),
            "content": parts or [{"type": "text", "text": text}],
            "stop_reason": "tool_use" if calls else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": USAGE[0], "output_tokens": USAGE[1]},
        }

    def said(self, text: str | None, calls: Sequence[Call]) -> Iterator[tuple[str, Json]]:
        whole = self.whole(text, calls)
        start = {**whole, "content": [], "stop_reason": None}
        yield "message_start", {"message": start}
        for index, part in enumerate(whole["content"]):
            if part["type"] == "text":
                empty, delta = {**part, "text": ""}, {"type": "text_delta", "text": part["text"]}
            else:
                given = json.dumps(part["input"])
                empty = {**part, "input": {}}
                delta = {"type": "input_json_delta", "partial_json": given}
            yield "content_block_start", {"index": index, "content_block": empty}
            yield "content_block_delta", {"index": index, "delta": delta}
            yield "content_block_stop", {"index": index}
        delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        yield "message_delta", {"delta": delta, "usage": {"output_tokens": USAGE[1]}}
        yield "message_stop", {}


class Responses(Dialect):
    def asked(self) -> Asked:
        def spoken() -> Iterator[tuple[str, str, list[str]]]:
            items = self.body.get("input", [])
            for item in items if isinstance(items, list) else [{"role": "user", "content": items}]:
                kind = str(item.get("type", "message"))
                if kind.endswith("_call"):
                    yield "model", "", [str(item.get("call_id"))]
                elif item.get("role") in {"user", "assistant"}:
                    who = "model" if item["role"] == "assistant" else "user"
                    yield who, _texts(item.get("content")), []

        script, played = _follow(spoken())
        return Asked(script, played, self._tools())

    def _tools(self) -> tuple[str, ...]:
        return tuple(str(t.get("name") or t.get("type")) for t in self.body.get("tools") or ())

    def shell(self, command: str) -> tuple[str, Json]:
        tools = self._tools()
        if "exec_command" in tools:
            return "exec_command", {"cmd": command}
        if "shell_command" in tools:
            return "shell_command", {"command": command}
        return "shell", {"command": ["bash", "-lc", command]}

    def write(self, path: str, text: str) -> tuple[str, Json]:
        lines = "".join(f"+{line}\n" for line in text.splitlines())
        patch = f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch"
        return self.shell(f"apply_patch <<'END'\n{patch}\nEND")

    def whole(self, text: str | None, calls: Sequence[Call]) -> Json:
        output: list[Json] = [
            {
                "type": "function_call",
                "id": f"fc-{call.id}",
                "call_id": call.id,
                "name": call.tool,
                "arguments": json.dumps(call.given),
                "status": "completed",
            }
            for call in calls
        ]
        part: Json = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "id": "m-1", "role": "assistant", "status": "completed"}
        tokens = {"input_tokens": USAGE[0], "output_tokens": USAGE[1]}
        return {
            "id": "resp-1",
            "object": "response",
            "created_at": 0,
            "status": "completed",
            "model": self.body.get("model"),
            "output": output or [{**message, "content": [part]}],
            "usage": {
                **tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": sum(USAGE),
            },
            "error": None,
        }

    def said(self, text: str | None, calls: Sequence[Call]) -> Iterator[tuple[str, Json]]:
        whole = self.whole(text, calls)
        yield "response.created", {"response": {**whole, "status": "in_progress", "output": []}}
        for index, item in enumerate(whole["output"]):
            begun = {**item, "content": []} if item["type"] == "message" else item
            yield "response.output_item.added", {"output_index": index, "item": begun}
            if item["type"] == "message":
                where = {"item_id": item["id"], "output_index": index, "content_index": 0}
                yield "response.output_text.delta", {**where, "delta": text}
            yield "response.output_item.done", {"output_index": index, "item": item}
        yield "response.completed", {"response": whole}


class Gemini(Dialect):
    def asked(self) -> Asked:
        def spoken() -> Iterator[tuple[str, str, list[str]]]:
            played = 0
            for content in self.body.get("contents", []):
                parts = content.get("parts", [])
                if content.get("role") == "model":
                    # it does not send ids back as they were: its turns are counted instead
                    made = [f"move-{played}-0"] if any("functionCall" in p for p in parts) else []
                    played += 1
                    yield "model", "" if made else _texts(parts), made
                else:
                    yield "user", _texts(parts), []

        tools = tuple(
            str(f.get("name"))
            for tool in self.body.get("tools") or ()
            for f in tool.get("functionDeclarations", ())
        )
        script, played = _follow(spoken())
        return Asked(script, played, tools)

    def shell(self, command: str) -> tuple[str, Json]:
        return "run_shell_command", {"command": command, "description": "as the script says"}

    def write(self, path: str, text: str) -> tuple[str, Json]:
        return "write_file", {"file_path": path, "content": text}

    def whole(self, text: str | None, calls: Sequence[Call]) -> Json:
        parts: list[Json] = [
            {"functionCall": {"id": call.id, "name": call.tool, "args": call.given}}
            for call in calls
        ]
        config = self.body.get("generationConfig") or {}
        if config.get("responseMimeType") == "application/json":  # which model, who speaks next
            choice = {"reasoning": "none", "next_speaker": "user", "model_choice": "flash"}
            text = json.dumps({**choice, "complexity_reasoning": "none", "complexity_score": 1})
        return {
            "candidates": [
                {
                    "content": {"role": "model", "parts": parts or [{"text": text}]},
                    "finishReason": "STOP",
                    "index": 0,
                }
            ],
            "usageMetadata": {
                "promptTokenCount": USAGE[0],
                "candidatesTokenCount": USAGE[1],
                "totalTokenCount": sum(USAGE),
            },
            "modelVersion": "script",
        }

    def said(self, text: str | None, calls: Sequence[Call]) -> Iterator[tuple[str, Json]]:
        yield "", self.whole(text, calls)

    @staticmethod
    def error(status: int, text: str) -> Json:
        name = "RESOURCE_EXHAUSTED" if status == 429 else "INTERNAL"
        return {"error": {"code": status, "message": text, "status": name}}


def dialect_of(path: str, body: Json) -> Dialect | None:
    """The dialect of a request, or None for what is no question to a model."""
    name = path.partition("?")[0]
    if name.endswith("/messages"):
        return Anthropic(body)
    if name.endswith("/responses"):
        return Responses(body)
    return Gemini(body) if "enerateContent" in name else None


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
