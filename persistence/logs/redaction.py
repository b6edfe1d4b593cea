"""Secrets do not get into logs: by the names of fields, by what secrets look like, and by their values while they are in use."""

import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

REDACTED: Final = "[redacted]"
_REDACTED_BYTES: Final = REDACTED.encode()

_NAMES: Final = re.compile(
    r"(pass(word|phrase|wd)|secret(?!_(name|id|kind|number))|token(?!s$|s_|_(id|name|count))|api_?key|authori[sz]ation|cookie|credential|private_?key"
    r"|signing_?key|(access|vault|encryption|master|data)_?key$|otp|^key$|^code$|(^|_)dsn$)",
    re.IGNORECASE,
)

# What secrets look like, each with a text that is always in it: most lines have none of these, and are not looked at any closer.
_LOOKS: Final[tuple[tuple[bytes, re.Pattern[bytes], bytes], ...]] = tuple(
    (marker, re.compile(pattern), replacement)
    for marker, pattern, replacement in (
        (b"pp_", rb"\bpp_[A-Za-z0-9_-]{40,}", _REDACTED_BYTES),
        (b"sk_", rb"\b[rsp]k_(?:live|test)_[A-Za-z0-9]{4,}", _REDACTED_BYTES),
        (b"sk-", rb"\bsk-[A-Za-z0-9_-]{16,}", _REDACTED_BYTES),
        (b"whsec_", rb"\bwhsec_[A-Za-z0-9+/=_-]{4,}", _REDACTED_BYTES),
        (b"earer ", rb"\b([Bb]earer )[A-Za-z0-9._~+/=-]{8,}", rb"\1" + _REDACTED_BYTES),
        (b"asic ", rb"\b([Bb]asic )[A-Za-z0-9+/=]{8,}", rb"\1" + _REDACTED_BYTES),
        (b"eyJ", rb"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", _REDACTED_BYTES),
        (b"://", rb"(://[^\s\"/@:]*:)[^\s\"/@]+(?=@)", rb"\1" + _REDACTED_BYTES),
        (b"AKIA", rb"\bAKIA[A-Z0-9]{16}\b", _REDACTED_BYTES),
        (b"gh", rb"\bgh[pousr]_[A-Za-z0-9]{20,}", _REDACTED_BYTES),
        (b"xox", rb"\bxox[abprs]-[A-Za-z0-9-]{10,}", _REDACTED_BYTES),
        (b"PRIVATE KEY", rb"-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"]*", _REDACTED_BYTES),
        (b"assword", rb"([Pp]assword(?:=|: ?))[^\s\",;&]{1,}", rb"\1" + _REDACTED_BYTES),
        (b"oken=", rb"([Tt]oken=)[^\s\",;&]{4,}", rb"\1" + _REDACTED_BYTES),
    )
)
_SHORTEST_VALUE: Final = 6
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


class Redactions:
    """What is taken out of lines. Safe to share among threads."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """names: of fields whose values are left out, besides those that always are; letter case does not matter."""
        self._names = frozenset(name.lower() for name in names)
        self._known: dict[str, bool] = {}
        self._values: tuple[bytes, ...] = ()
        self._lock = threading.Lock()

    def hides(self, name: str) -> bool:
        """Whether a field of this name is left out."""
        known = self._known.get(name)
        if known is None:
            known = name.lower() in self._names or _NAMES.search(name.replace("-", "_")) is not None
            if len(self._known) < 10_000:
                self._known[name] = known
        return known

    def register(self, value: str | bytes) -> None:
        """Leaves this very text out from now on, wherever it stands."""
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        if len(text) < _SHORTEST_VALUE:
            return
        written = orjson.dumps(text)[1:-1]  # as it stands in a line
        with self._lock:
            if written not in self._values:
                self._values = (*self._values, written)

    def forget_values(self) -> None:
        """Ends what was registered."""
        self._values = ()

    def without_named(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields without the values that their names say to leave out, at any depth."""
        known, clean = self._known, {}
        for name, value in fields.items():
            hides = known.get(name)
            if (self.hides(name) if hides is None else hides) and value is not None:
                clean[name] = REDACTED
            else:
                clean[name] = value if type(value) in _PLAIN else self._cleaned(value)
        return clean

    def cleaned(self, lines: list[bytes]) -> list[bytes]:
        """Lines of JSON without what looks like a secret, or was registered as one. They stay JSON.

        What a secret of each kind always has in it is looked for in all lines at once: mostly there is none.
        """
        together = b"".join(lines)
        for marker, pattern, replacement in _LOOKS:
            if marker in together:
                lines = [pattern.sub(replacement, line) if marker in line else line for line in lines]
        for value in self._values:
            if value in together:
                lines = [line.replace(value, _REDACTED_BYTES) for line in lines]
        return lines

    def _cleaned(self, value: Any) -> Any:
        kind = type(value)
        if kind is dict:
            return self.without_named({str(name): item for name, item in value.items()})
        if kind is list or kind is tuple:
            return [self._cleaned(item) for item in value]
        return value


SHARED: Final = Redactions()
"""What all logs of this process leave out: values of secrets while the vault is open."""
