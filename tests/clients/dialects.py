"""The dialects in which agent clients ask a model, and are answered: one class for each.

Anthropic Messages (Claude Code), OpenAI Responses (Codex), Gemini's generateContent, and OpenAI's chat
completions (opencode).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
_MOVE = re.compile(r"move-(\d+)-(\d+)")
USAGE = (1000, 50)  # tokens in and out, of every answer


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


class Dialect:
    """What a client asks, and how it is answered."""

    def __init__(self, body: Json) -> None:
        self.body = body

    def asked(self) -> Asked:
        raise NotImplementedError

    def shell(self, command: str) -> tuple[str, Json]:
        raise NotImplementedError

    def read(self, path: str) -> tuple[str, Json]:
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

    def read(self, path: str) -> tuple[str, Json]:
        return "Read", {"file_path": path}

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

    def read(self, path: str) -> tuple[str, Json]:
        return self.shell(f"cat {shlex.quote(path)}")

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

    def read(self, path: str) -> tuple[str, Json]:
        return "read_file", {"file_path": path}

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


class Chat(Dialect):
    def asked(self) -> Asked:
        def spoken() -> Iterator[tuple[str, str, list[str]]]:
            for message in self.body.get("messages", []):
                if message["role"] == "assistant":
                    ids = [str(call["id"]) for call in message.get("tool_calls") or ()]
                    yield "model", _texts(message.get("content")), ids
                elif message["role"] == "user":
                    yield "user", _texts(message.get("content")), []

        tools = [t.get("function", {}).get("name") for t in self.body.get("tools") or ()]
        script, played = _follow(spoken())
        return Asked(script, played, tuple(map(str, tools)))

    def shell(self, command: str) -> tuple[str, Json]:
        return "bash", {"command": command, "description": "as the script says"}

    def read(self, path: str) -> tuple[str, Json]:
        return "read", {"filePath": path}

    def write(self, path: str, text: str) -> tuple[str, Json]:
        return "write", {"filePath": path, "content": text}

    def _choices(self, field: str, text: str | None, calls: Sequence[Call]) -> Json:
        made = [
            {
                "index": index,
                "id": call.id,
                "type": "function",
                "function": {"name": call.tool, "arguments": json.dumps(call.given)},
            }
            for index, call in enumerate(calls)
        ]
        message = {"role": "assistant", "content": text, **({"tool_calls": made} if made else {})}
        end = "tool_calls" if made else "stop"
        return {
            "id": "chat-1",
            "object": "chat.completion" + ".chunk" * (field == "delta"),
            "created": 0,
            "model": self.body.get("model"),
            "choices": [{"index": 0, field: message, "finish_reason": end}],
            "usage": {
                "prompt_tokens": USAGE[0],
                "completion_tokens": USAGE[1],
                "total_tokens": sum(USAGE),
            },
        }

    def whole(self, text: str | None, calls: Sequence[Call]) -> Json:
        return self._choices("message", text, calls)

    def said(self, text: str | None, calls: Sequence[Call]) -> Iterator[tuple[str, Json]]:
        yield "", self._choices("delta", text, calls)


def dialect_of(path: str, body: Json) -> Dialect | None:
    """The dialect of a request, or None for what is no question to a model."""
    name = path.partition("?")[0]
    if name.endswith("/messages"):
        return Anthropic(body)
    if name.endswith("/responses"):
        return Responses(body)
    if name.endswith("/chat/completions"):
        return Chat(body)
    return Gemini(body) if "enerateContent" in name else None
