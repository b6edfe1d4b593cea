"""Which data start which runs: the rule file.

In YAML, the first rule that fits a file's scope applies::

    data:github.issues:
      run: triage
      effects:
        - type: HTTP_POST
          spec:
            url: https://example.org/triage
            json: {$from: /data/issue}
    data:github.*:
      run: archive
      completes: false

``{$from: POINTER}`` stands for a part of the data file, by JSON Pointer (RFC 6901).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ConfigDict, Field, RootModel, TypeAdapter, ValidationError, field_validator

from persistence.encoding import check
from persistence.errors import ConfigurationError, PersistenceError
from persistence.ingest.journal import CHANNEL_PREFIX
from persistence.ingest.scopes import parse_scope
from persistence.ingest.text import Text, part_of
from persistence.models import Run, Signal
from persistence.models.base import Json, Model
from persistence.transaction import Transaction

_ANY: Final = "*"
_FROM: Final = "$from"


class EffectRule(Model):
    """An effect to ask for. spec: a JSON object for the handler of its type. The rest: as EffectRepository.request has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(min_length=1, max_length=200)
    spec: dict[str, Json] = Field(default={})
    ordering_key: str | None = Field(None, min_length=1, max_length=300)
    priority: int = Field(0, ge=-100, le=100)

    @field_validator("spec")
    @classmethod
    def _check_spec(cls, spec: dict[str, Json]) -> dict[str, Json]:
        try:
            check(spec, "spec")
        except PersistenceError as error:
            raise ValueError(str(error)) from error
        for pointer in _pointers(spec):
            if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
                raise ValueError(f"{_FROM}: {pointer!r} is no JSON Pointer; it begins with /, such as /data/issue")
        return spec


class Rule(Model):
    """What a data file starts.

    run: the run's type. step: the type of its one step, which asks for the effects. completes: whether the run is complete once they have been
    asked for; otherwise it goes on, and a service ends it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str = Field(min_length=1, max_length=200)
    step: str = Field("data", min_length=1, max_length=200)
    effects: tuple[EffectRule, ...] = ()
    completes: bool = True

    @property
    def reads(self) -> bool:
        """Whether it needs the file."""
        return any(True for effect in self.effects for _ in _pointers(effect.spec))

    def specs(self, text: Text) -> list[dict[str, Json]]:
        """The specs of its effects, filled from a data file.

        Raises NotFound where the file lacks a part, InvalidInput for one that cannot be kept.
        """
        filled = [_filled(effect.spec, text) for effect in self.effects]
        check(filled, "effects")
        return filled

    def start(self, tx: Transaction, signal: Signal, name: str, specs: list[dict[str, Json]]) -> Run:
        """Starts the run of a signal. name: the rule's own, for the log."""
        run = tx.runs.start(signal, run_type=self.run, input=signal.payload, attributes={"rule": name})
        if self.effects:
            step = tx.steps.start(run, step_type=self.step)
            for index, (effect, spec) in enumerate(zip(self.effects, specs, strict=True)):
                tx.effects.request(
                    step,
                    effect.type,
                    spec=spec,
                    idempotency_key=f"data/{signal.id}/{index}",
                    ordering_key=effect.ordering_key,
                    priority=effect.priority,
                )
            step = tx.steps.complete(step)
            run = tx.runs.complete(run, because=step) if self.completes else run
        elif self.completes:
            run = tx.runs.complete(run)
        tx.signals.process(signal, because=run)
        return run


class Rules(RootModel[dict[str, Rule]]):
    """Rules by signal channel, ``data:SCOPE``, ``data:SOURCE.*`` or ``data:*``."""

    model_config = ConfigDict(frozen=True)

    @field_validator("root")
    @classmethod
    def _check_channels(cls, root: dict[str, Rule]) -> dict[str, Rule]:
        for channel in root:
            pattern = channel.removeprefix(CHANNEL_PREFIX)
            stem = pattern.removesuffix(f".{_ANY}")
            if not channel.startswith(CHANNEL_PREFIX):
                raise ValueError(f"{channel!r} does not begin with {CHANNEL_PREFIX}")
            if pattern != _ANY:
                parse_scope(pattern if stem == pattern else f"{stem}.any" if "." not in stem else stem)
        return root

    def rule_for(self, scope: str) -> tuple[str, Rule] | None:
        """The first rule that fits, with its name."""
        return next(((name, rule) for name, rule in self.root.items() if _fits(name.removeprefix(CHANNEL_PREFIX), scope)), None)


NO_RULES: Final = Rules({})


def load_rules(path: Path) -> Rules:
    """Reads a rule file. Raises ConfigurationError, naming the place."""
    try:
        return TypeAdapter(Rules).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise ConfigurationError(f"rules: {path}: {error.strerror}", hint="name a file that can be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"rules: {path} is no YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigurationError(f"rules: {path}: {place}: {first['msg'].removeprefix('Value error, ')}") from error
    except PersistenceError as error:
        raise ConfigurationError(f"rules: {path}: {error}") from error


def _fits(pattern: str, scope: str) -> bool:
    return pattern in {scope, _ANY} or (pattern.endswith(f".{_ANY}") and scope.startswith(pattern.removesuffix(_ANY)))


def _pointers(value: Json) -> Iterator[Any]:
    if isinstance(value, dict):
        if value.keys() == {_FROM}:
            yield value[_FROM]
        else:
            for child in value.values():
                yield from _pointers(child)
    elif isinstance(value, list):
        for child in value:
            yield from _pointers(child)


def _filled(value: Json, text: Text) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_FROM}:
            return part_of(text, value[_FROM])
        return {key: _filled(child, text) for key, child in value.items()}
    return [_filled(child, text) for child in value] if isinstance(value, list) else value
