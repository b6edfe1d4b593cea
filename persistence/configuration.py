"""Configuration files: YAML with one section, whose keys are those of a model. What is unknown or wrong is named by file and key."""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from persistence.errors import ConfigurationError, first_problem

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_LARGEST: Final = 1024 * 1024


class Section(BaseModel):
    """What a configuration file says. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Section)


def parse_duration(text: str) -> timedelta:
    """Reads ``15m``, ``30s``, ``1h30m`` or ``250ms``. Raises ValueError."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration; write a number and ms, s, m, h or d, such as 15m or 1h30m")
    try:
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError(f"{text!r} is longer than can be counted") from None


def _fields_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The fields of the model that stands at a place within another."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            inner = _model_in(model.model_fields[part].annotation)
            model = inner or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _path(value: Any) -> Any:
    if isinstance(value, str) and (not value or "\0" in value):
        raise ValueError("is no path")
    return value


PathOption = Annotated[Path, BeforeValidator(_path)]
"""A path that the system takes."""

Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A timedelta, or a text such as ``15m``."""


def read_section(path: Path, name: str, model: type[S]) -> S:
    """The section of a file; the model's defaults where there is no file. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return model()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > _LARGEST:
        raise ConfigurationError(f"{path}: is larger than {_LARGEST} bytes")
    return parse_section(raw, path, name, model)


def parse_section(raw: bytes, path: Path, name: str, model: type[S]) -> S:
    """The same of a file's bytes."""
    try:
        document = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if document is None:
        return model()
    if not isinstance(document, dict) or set(document) != {name}:
        raise ConfigurationError(f"{path}: has to be one section, {name}:", hint="docs/settings.md has each file with its keys")
    try:
        return model.model_validate({} if document[name] is None else document[name])
    except (OverflowError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {name}: {error}") from error
    except ValidationError as error:
        field, problem = first_problem(error)
        known = ", ".join(_fields_at(model, error.errors()[0]["loc"][:-1]))
        unknown = error.errors()[0]["type"] == "extra_forbidden"
        raise ConfigurationError(
            f"{path}: {name}.{field}: {'is not known' if unknown else problem}",
            hint=f"it takes {known}" if unknown else None,
            field=f"{name}.{field}",
        ) from error
