"""XES (IEEE 1849-2016) in terms of the log: what an attribute is as JSON and back, and which transition each event stands for.

Most attributes are plain JSON: a string, a number, a boolean, a date as text, a container as an object. Where that would not come back as it was,
it is an object that says so: ``xes:type``, ``xes:value`` (the text), ``xes:values`` (of a list or container: pairs of key and value) and
``xes:attributes`` (nested ones, as pairs).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

Pairs = Sequence[tuple[str, Any]]

RESERVED: Final = "xes:"
IMPLIED: Final = "xes:implied"
"""The attribute of an event that stands for nothing in the log that was read."""

TYPE: Final = "xes:type"
_VALUE: Final = "xes:value"
_VALUES: Final = "xes:values"
_NESTED: Final = "xes:attributes"
_LARGEST_EXACT: Final = 1e15

TRANSITIONS: Final = {
    "STEP_SCHEDULED": "schedule",
    "STEP_STARTED": "start",
    "STEP_RECORDED": "complete",
    "STEP_COMPLETED": "complete",
    "STEP_SUSPENDED": "suspend",
    "STEP_RESUMED": "resume",
    "STEP_SKIPPED": "manualskip",
    "STEP_CANCELLED": "ate_abort",
    "STEP_FAILED": "ate_abort",
    "STEP_RETRIED": "resume",
    "TOOL_CALL_REQUESTED": "schedule",
    "TOOL_CALL_STARTED": "start",
    "TOOL_CALL_COMPLETED": "complete",
    "TOOL_CALL_FAILED": "ate_abort",
    "TOOL_CALL_CANCELLED": "ate_abort",
    "EFFECT_REQUESTED": "schedule",
    "EFFECT_ATTEMPT_FAILED": "suspend",
    "EFFECT_EXECUTED": "complete",
    "EFFECT_DEAD_LETTERED": "ate_abort",
    "EFFECT_REQUEUED": "resume",
    "EFFECT_CANCELLED": "withdraw",
    "EFFECT_DISCARDED": "pi_abort",
}
"""The transition of the standard life cycle that an event stands for, unless it says otherwise."""


def kept_key(key: str) -> str:
    """The key of an attribute of a log among the attributes of an event, some of whose keys are ours."""
    return RESERVED + key if key.startswith(RESERVED) else key


def original_key(key: str) -> str:
    """The key that ``kept_key`` was given."""
    return key.removeprefix(RESERVED) if key.startswith(RESERVED * 2) else key


def as_json(kind: str, text: str | None, *, key: str = "", values: Pairs = (), nested: Pairs = ()) -> Any:
    """An attribute's value as JSON. kind: the element's name. values: of a list or container. Raises ValueError for text that is not of the kind."""
    plain = _plain(kind, text, key, values)
    if not nested and plain is not _NOT_PLAIN:
        return plain
    form: dict[str, Any] = {TYPE: kind}
    if text is not None:
        form[_VALUE] = text
    if kind in {"list", "container"}:
        form[_VALUES] = [list(pair) for pair in values]
    if nested:
        form[_NESTED] = [list(pair) for pair in nested]
    return form


_NOT_PLAIN: Final = object()


def _plain(kind: str, text: str | None, key: str, values: Pairs) -> Any:
    """The value as plain JSON that is read back as the same; _NOT_PLAIN where there is none."""
    match kind:
        case "list":
            return [value for _, value in values] if all(name == key for name, _ in values) else _NOT_PLAIN
        case "container":
            names = [name for name, _ in values]
            return dict(values) if len({*names}) == len(names) and TYPE not in names else _NOT_PLAIN
        case "int":
            number = int(str(text))
            return number if abs(number) < 2**63 else _NOT_PLAIN
        case "float":
            real = float(str(text))
            return real if abs(real) < _LARGEST_EXACT else _NOT_PLAIN
        case "boolean":
            return {"true": True, "1": True, "false": False, "0": False}[str(text).lower()]
        case "date":
            return text if moment_of(text) else _NOT_PLAIN
        case "string":
            return _NOT_PLAIN if text is None or moment_of(text) else text
        case _:
            return _NOT_PLAIN


def moment_of(text: Any) -> str | None:
    """A time with a zone, as XES writes it; None for other text."""
    if not isinstance(text, str) or len(text) < len("2026-01-31T12:00Z") or text[4:5] != "-" or "T" not in text[:11]:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.isoformat() if moment.tzinfo else None


def as_attribute(key: str, value: Any) -> tuple[str, str | None, Pairs, Pairs] | None:
    """What ``as_json`` was given: kind, text, values and nested attributes. None for JSON's null, which XES has not."""
    match value:
        case None:
            return None
        case bool():
            return "boolean", str(value).lower(), (), ()
        case int():
            return ("int" if abs(value) < 2**63 else "string"), str(value), (), ()
        case float():
            return "float", repr(value), (), ()
        case datetime():
            return "date", value.isoformat(timespec="microseconds"), (), ()
        case Mapping() if isinstance(value.get(TYPE), str):
            text = value.get(_VALUE)
            return value[TYPE], None if text is None else str(text), _pairs(value.get(_VALUES)), _pairs(value.get(_NESTED))
        case Mapping():
            return "container", None, tuple((str(name), item) for name, item in value.items()), ()
        case list() | tuple():
            return "list", None, tuple((key, item) for item in value), ()
    moment = moment_of(str(value))
    return ("date", moment, (), ()) if moment else ("string", str(value), (), ())


def text_of(value: Any) -> str | None:
    """The text of an attribute, whatever its kind; None where it has none."""
    found = as_attribute("", value)
    return found[1] if found else None


def _pairs(value: Any) -> Pairs:
    if not isinstance(value, list):
        return ()
    return tuple((str(pair[0]), pair[1]) for pair in value if isinstance(pair, list) and len(pair) == 2)
