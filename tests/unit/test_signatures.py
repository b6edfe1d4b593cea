"""Every public function says what it takes: full signatures, no catch-all of anything, and a wrong name raises."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, Unpack

import pytest

import persistence
from persistence.errors import ConfigurationError
from persistence.outbox import PermanentFailure, RetryLater, Worker
from persistence.settings import Overrides


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in pkgutil.walk_packages(persistence.__path__, "persistence."):
        if any(part.startswith("_") for part in module.name.split(".")):
            continue
        loaded = importlib.import_module(module.name)
        for name, member in vars(loaded).items():
            if name.startswith("_") or getattr(member, "__module__", None) != module.name:
                continue
            if inspect.isfunction(member):
                yield f"{module.name}.{name}", member
            elif inspect.isclass(member):
                for method, function in vars(member).items():
                    if getattr(function, "__module__", None) != module.name:
                        continue  # what a Protocol or a dataclass brings
                    if inspect.isfunction(function) and (not method.startswith("_") or method == "__init__"):
                        yield f"{module.name}.{name}.{method}", function


FUNCTIONS = dict(public_functions())
SERVICES = tuple(
    f"persistence.{name}."
    for name in ("plane", "transaction", "repositories", "errors", "models", "queries", "outbox.worker", "outbox.delivery")
)
UNPACKED = type(Unpack[Overrides])


def test_public_functions_have_full_signatures() -> None:
    assert len(FUNCTIONS) > 500
    lacking = [
        f"{name}({parameter.name})"
        for name, function in FUNCTIONS.items()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in {"self", "cls"}
    ]
    assert lacking == []
    assert [
        name for name, function in FUNCTIONS.items() if inspect.signature(function).return_annotation is inspect.Signature.empty
    ] == []


def test_what_services_import_takes_no_keywords_of_any_name() -> None:
    loose = [
        name
        for name, function in FUNCTIONS.items()
        for parameter in inspect.signature(function).parameters.values()
        if name.startswith(SERVICES) and parameter.kind is parameter.VAR_KEYWORD and not isinstance(parameter.annotation, UNPACKED)
    ]
    assert loose == []


@pytest.mark.parametrize("call", [
    lambda: persistence.Plane("postgresql://h/d", dns="x"),
    lambda: Worker(nam="x"),
    lambda: PermanentFailure("no", status=404),
    lambda: RetryLater("later", dealy=3),
])  # fmt: skip
def test_a_wrong_name_raises(call: Callable[[], object]) -> None:
    with pytest.raises((TypeError, ConfigurationError), match=r"nam|dns|status|dealy"):
        call()
