"""Whether plain values fit a JSON Schema, told fast where they do.

jsonschema takes fifty times as long. It is asked where this says no, or cannot tell: what is wrong is
said by it alone. `tests/test_schemas.py` holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gitwaves.patterns import regex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Fits = Callable[[Any], bool]
else:
    Fits = Callable

_SAYS_NOTHING = frozenset(
    {"$schema", "$id", "$defs", "title", "description", "default", "examples", "format"}
)
_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "array": (list,), "object": (dict,), "integer": (int,),
    "number": (int, float), "boolean": (bool,), "null": (type(None),),
}  # fmt: skip


def fits(schema: Mapping[str, Any]) -> Fits:
    """A function that is true only of values that a schema allows."""
    return _Compiler(schema.get("$defs", {})).compiled(schema)


def _never(value: Any) -> bool:
    del value
    return False


class _Compiler:
    def __init__(self, defs: Mapping[str, Any]) -> None:
        self._defs = defs
        self._known: dict[str, Fits] = {}

    def compiled(self, schema: Any) -> Fits:
        if schema is True or schema == {}:
            return lambda value: True
        if not isinstance(schema, Mapping):
            return _never
        rules = {k: v for k, v in schema.items() if k not in _SAYS_NOTHING}
        if not rules:
            return lambda value: True
        if set(rules) == {"const"} and type(wanted := rules["const"]) in (str, int):
            return lambda value: type(value) is type(wanted) and value == wanted
        if "$ref" in rules:
            return self._named(rules["$ref"]) if len(rules) == 1 else _never
        kinds = rules.pop("type", "string" if set(rules) == {"enum"} else None)
        if kinds is None or not set(rules) <= frozenset().union(*_RULES.values()):
            return _never
        names = [kinds] if isinstance(kinds, str) else kinds
        checks = {kind: self._of(name, rules) for name in names for kind in _KINDS[name]}
        if len(checks) == 1:  # as for nearly all, in half the time
            ((only, fits_it),) = checks.items()
            return lambda value: type(value) is only and fits_it(value)
        return lambda value: (check := checks.get(type(value))) is not None and check(value)

    def _named(self, ref: str) -> Fits:
        name = ref.removeprefix("#/$defs/")
        if name not in self._defs:
            return _never
        if name not in self._known:
            self._known[name] = _never  # one that refers to itself is left to jsonschema
            self._known[name] = self.compiled(self._defs[name])
        return self._known[name]

    def _of(self, kind: str, rules: Mapping[str, Any]) -> Fits:
        """What a schema asks of a value of one type; rules for other types do not concern it."""
        mine = {k: v for k, v in rules.items() if k in _RULES.get(kind, ())}
        if kind == "string":
            return _string(mine)
        if kind == "integer":
            low, high = mine.get("minimum"), mine.get("maximum")
            return lambda v: (low is None or v >= low) and (high is None or v <= high)
        if kind == "array":
            return self._array(mine)
        if kind == "object":
            return self._object(mine)
        return _never if mine else lambda value: True

    def _array(self, rules: Mapping[str, Any]) -> Fits:
        item = self.compiled(rules.get("items", True))
        least, unique = rules.get("minItems", 0), rules.get("uniqueItems", False)

        def check(value: Any) -> bool:
            if len(value) < least or not all(map(item, value)):
                return False
            return not unique or (
                all(type(v) is str for v in value) and len(set(value)) == len(value)
            )

        return check

    def _object(self, rules: Mapping[str, Any]) -> Fits:
        properties = {k: self.compiled(s) for k, s in rules.get("properties", {}).items()}
        required = list(rules.get("required", ()))
        others = rules.get("additionalProperties", True)
        other = _never if others is False else self.compiled(others)
        patterns = rules.get("patternProperties", {})
        if any(set(schema) - _SAYS_NOTHING for schema in patterns.values()):
            return _never
        if patterns and others is not False:
            return _never
        names = rules.get("propertyNames", {})
        if set(names) - _SAYS_NOTHING - _RULES["string"]:
            return _never
        name_fits = _string(names) if names else None
        free = regex("|".join(f"(?:{pattern})" for pattern in patterns) or "(?!)")
        if patterns and any(map(free.search, properties)):
            return _never
        unless: list[str] = []
        if "if" in rules:
            condition, otherwise = rules["if"], rules.get("else", {})
            if set(condition) != {"required"} or set(otherwise) - {"required"}:
                return _never
            unless = condition["required"]  # then `then` counts, and jsonschema is asked
            required += otherwise.get("required", ())

        def check(value: Any) -> bool:
            if unless and all(name in value for name in unless):
                return False
            for name in required:
                if name not in value:
                    return False
            if name_fits is not None and not all(map(name_fits, value)):
                return False
            for name, inner in value.items():  # a loop takes half the time of a generator
                known = properties.get(name)
                if known is None:
                    if not (free.search(name) or other(inner)):
                        return False
                elif not known(inner):
                    return False
            return True

        return check


def _string(rules: Mapping[str, Any]) -> Fits:
    pattern = regex(rules["pattern"]) if "pattern" in rules else None
    least, most = rules.get("minLength", 0), rules.get("maxLength", 1 << 62)
    words = rules.get("enum")
    if pattern is None:
        return lambda v: least <= len(v) <= most and (words is None or v in words)
    return lambda v: (
        least <= len(v) <= most and (words is None or v in words) and pattern.search(v) is not None
    )


_RULES: Mapping[str, frozenset[str]] = {
    "string": frozenset({"pattern", "minLength", "maxLength", "enum"}),
    "integer": frozenset({"minimum", "maximum"}),
    "array": frozenset({"items", "minItems", "uniqueItems"}),
    "object": frozenset(
        {
            "properties",
            "required",
            "additionalProperties",
            "propertyNames",
            "patternProperties",
            "if",
            "then",
            "else",
        }
    ),
}
