"""Which data start which runs: the rules of a folder of data files.

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

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import yaml
from pydantic import ConfigDict, Field, RootModel, TypeAdapter, ValidationError, field_validator

from persistence.encoding import check
from persistence.errors import ConfigurationError, PersistenceError
from persistence.ingest.journal import CHANNEL_PREFIX
from persistence.ingest.scopes import parse_scope
from persistence.ingest.text import Text, part_of
from persistence.models import Run, Signal
from persistence.models.base import Json, Model
from persistence.settings import MEBIBYTE
from persistence.transaction import Transaction
from persistence.workspaces.jail import FILE_MODE, make_folder, sync_folder

_ANY: Final = "*"
_FROM: Final = "$from"
_LARGEST: Final = MEBIBYTE


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
        for name in _names(spec):
            if name.startswith("$") and name != _FROM:
                raise ValueError(f"{name!r} is not known; {_FROM} is")
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
        patterns = [channel.removeprefix(CHANNEL_PREFIX) for channel in root]
        for place, pattern in enumerate(patterns):
            wider = next((before for before in patterns[:place] if _fits(before, pattern)), None)
            if wider is not None:
                raise ValueError(f"{CHANNEL_PREFIX}{pattern} never applies: {CHANNEL_PREFIX}{wider} stands before it")
        return root

    def rule_for(self, scope: str) -> tuple[str, Rule] | None:
        """The first rule that fits, with its name."""
        return next(((name, rule) for name, rule in self.root.items() if _fits(name.removeprefix(CHANNEL_PREFIX), scope)), None)


NO_RULES: Final = Rules({})


class RuleFile:
    """The rules of a folder of data files: ``rules.yaml`` in it. They belong to the folder, so that whoever records what it holds goes by them,
    and they hold from the next record on.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "rules.yaml"
        self._read: tuple[tuple[int, int, int], Rules] | None = None

    def rules(self) -> Rules:
        """The rules as they are now. Raises ConfigurationError, naming the place: nothing is recorded past rules that cannot be read."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self.path.is_symlink():
                raise ConfigurationError(f"rules: {self.path} leads nowhere", hint="persistence data rules remove") from None
            return NO_RULES
        version = found.st_mtime_ns, found.st_size, found.st_ino
        if self._read is None or self._read[0] != version:
            self._read = version, parsed_rules(self._text(), str(self.path))
        return self._read[1]

    def text(self) -> str | None:
        """As it was written; None: there are no rules. Raises ConfigurationError."""
        return self._text() if self.path.exists() else None

    def _text(self) -> str:
        try:
            with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ConfigurationError(f"rules: {self.path} is no file", hint="persistence data rules set FILE")
                return file.read(_LARGEST + 1).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"rules: {self.path}: {error}", hint="persistence data rules set FILE") from error

    def replace(self, text: str | None, source: str = "the rules") -> None:
        """Puts others in their place, durably and at once; None: no rules. source: for messages. Raises ConfigurationError for some that are none."""
        if text is None:
            self.path.unlink(missing_ok=True)
        else:
            parsed_rules(text, source)
            make_folder(self.path.parent)
            draft = self.path.with_name(f".rules.{uuid4().hex}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self.path)
        sync_folder(self.path.parent)


def parsed_rules(text: str, source: str) -> Rules:
    """Reads rules. source: for messages. Raises ConfigurationError, naming the place."""
    if len(text) > _LARGEST:
        raise ConfigurationError(f"rules: {source}: more than {_LARGEST} bytes")
    try:
        found = yaml.load(text, _Plain)  # noqa: S506  it is a SafeLoader
        if not isinstance(found, dict):
            raise ConfigurationError(
                f"rules: {source} holds no rules", hint="a mapping is needed, such as data:github.*: {run: triage}; {} for none"
            )
        return TypeAdapter(Rules).validate_python(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigurationError(f"rules: {source}: {place}: {first['msg'].removeprefix('Value error, ')}") from error
    except ConfigurationError:
        raise
    except PersistenceError as error:
        raise ConfigurationError(f"rules: {source}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the loader lets both of the latter through
        raise ConfigurationError(f"rules: {source} is no YAML: {error}") from error


class _Plain(yaml.SafeLoader):
    """YAML without what makes a short text large or ambiguous: aliases, and a key that comes twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not for rules: write it out", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  as it is there
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} comes twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


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


def _names(value: Json) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names(child)


def _filled(value: Json, text: Text) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_FROM}:
            return part_of(text, value[_FROM])
        return {key: _filled(child, text) for key, child in value.items()}
    return [_filled(child, text) for child in value] if isinstance(value, list) else value
