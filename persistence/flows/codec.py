"""What flows are given and give back, as JSON and back: plain values, pydantic models and dataclasses, by the annotations of their functions."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from persistence.errors import FlowError, InvalidInput, first_problem

_PLAIN = (str, int, float, bool, type(None))


def to_json(value: Any, field: str) -> Any:
    """A value as JSON can express it. Raises InvalidInput, naming the field."""
    if isinstance(value, _PLAIN):
        return value
    try:
        return to_jsonable_python(value, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{field}: a {type(value).__name__} cannot be kept: {error}",
            hint="flows pass JSON, pydantic models and dataclasses; open connections and clients inside the step",
            field=field,
        ) from None


def from_json(value: Any, annotation: Any, field: str) -> Any:
    """What JSON says, as the annotation asks for it. Raises FlowError, naming the field."""
    if annotation is Any:
        return value
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as error:
        place, problem = first_problem(error)
        raise FlowError(
            f"{field}: {f'{place}: ' if place else ''}{problem}", hint="the record is not of the type that the code asks for"
        ) from None


def returns(function: Callable[..., Any]) -> Any:
    """What a function says that it gives back; Any where it says nothing."""
    return _hints(function).get("return", Any)


def takes(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    """The names and annotations of what a function is given by place."""
    hints = _hints(function)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [(name, hints.get(name, Any)) for name, given in inspect.signature(function).parameters.items() if given.kind in kinds]


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    inner = function
    while hasattr(inner, "func"):  # functools.partial
        inner = inner.func
    try:
        return get_type_hints(inner)
    except (NameError, TypeError):  # names that are known while types are checked only
        return {}


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)
