"""Secrets do not get into logs: by the names of fields, by what secrets look like, and by their values while they are in use."""

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, quote_plus

import orjson

REDACTED: Final = "[redacted]"
_NAMES: Final = re.compile(
    r"(pass(word|phrase|wd)|secret(?!_(name|id|kind|number))|token(?!s$|s_|_(id|name|count))|api_?key|authori[sz]ation|cookie|credential|private_?key"
    r"|signing_?key|(access|vault|encryption|master|data)_?key$|otp|^key$|^code$|(^|_)dsn$)",
    re.IGNORECASE,
)

# What secrets look like, each with a text in small letters that is always in it: most lines have none of these, and are not looked at any closer.
_LOOKS: Final[tuple[tuple[tuple[bytes, ...], re.Pattern[str], str], ...]] = tuple(
    (markers, re.compile(pattern), replacement)
    for markers, pattern, replacement in (
        ((b"pp_",), r"\bpp_[A-Za-z0-9_-]{40,}", REDACTED),
        ((b"k_live_", b"k_test_"), r"\b[rsp]k_(?:live|test)_[A-Za-z0-9]{4,}", REDACTED),
        ((b"sk-",), r"\bsk-[A-Za-z0-9_-]{16,}", REDACTED),
        ((b"whsec_",), r"\bwhsec_[A-Za-z0-9+/=_-]{4,}", REDACTED),
        ((b"bearer ",), r"(?i)\b(bearer )[A-Za-z0-9._~+/=-]{8,}", rf"\1{REDACTED}"),
        ((b"basic ",), r"(?i)\b(basic )[A-Za-z0-9+/=]{8,}", rf"\1{REDACTED}"),
        ((b"eyj",), r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", REDACTED),
        ((b"://",), r"(://[^\s/@:]*:)\S+(?=@[^\s@]+)", rf"\1{REDACTED}"),
        ((b"akia",), r"\bAKIA[A-Z0-9]{16}\b", REDACTED),
        ((b"aiza",), r"\bAIza[A-Za-z0-9_-]{30,}", REDACTED),
        ((b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{20,}", REDACTED),
        ((b"glpat-",), r"\bglpat-[A-Za-z0-9_-]{16,}", REDACTED),
        ((b"xox",), r"\bxox[abprs]-[A-Za-z0-9-]{10,}", REDACTED),
        ((b"private key",), r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", REDACTED),
        (
            (b"passw", b"pwd", b"passphrase", b"secret", b"api-key", b"api_key", b"apikey", b"token"),
            r"(?i)((?:passw(?:or)?d|pwd|passphrase|secret|api[_-]?key|token)[\"']?\s*[=:]\s*[\"']?)(?!\[redacted)[^\s\"',;&]{3,}",
            rf"\1{REDACTED}",
        ),
    )
)
_SHORTEST_VALUE: Final = 6
_SHORTEST_GIVEN: Final = 4
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_DEEPEST: Final = 20
_LINGER: Final = 5.0


class Redactions:
    """What is taken out of lines. Safe to share among threads."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """names: of fields whose values are left out, besides those that always are; letter case does not matter."""
        self._names = frozenset(name.lower() for name in names)
        self._known: dict[str, bool] = {}
        self._values: tuple[str, ...] = ()
        self._stamps: dict[str, int] = {}
        self._registered = 0
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
        with self._lock:
            self._registered += 1
            self._stamps[text] = self._registered
            if text not in self._values:
                self._values = (*self._values, text)

    def forget_values(self) -> None:
        """Ends what was registered, once what was said until now has been written. What is registered again meanwhile stays."""
        with self._lock:
            gone = {value: self._stamps[value] for value in self._values}
        if gone:
            timer = threading.Timer(_LINGER, self._forget, (gone,))
            timer.daemon = True
            timer.start()

    def _forget(self, gone: Mapping[str, int]) -> None:
        with self._lock:
            self._values = tuple(value for value in self._values if gone.get(value) != self._stamps[value])
            self._stamps = {value: self._stamps[value] for value in self._values}

    def without_named(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields without the values that their names say to leave out, at any depth."""
        known, clean = self._known, {}
        for key, value in fields.items():
            name = key if type(key) is str else str(key)
            hides = known.get(name)
            if (self.hides(name) if hides is None else hides) and value is not None:
                clean[name] = REDACTED
            else:
                clean[name] = value if type(value) in _PLAIN else self._cleaned(value)
        return clean

    def cleaned(self, lines: list[bytes]) -> list[bytes]:
        """Lines of JSON without what looks like a secret, or was registered as one. They stay JSON, and so do the lines they are made of.

        What a secret of each kind always has in it is looked for in all lines at once: mostly there is none.
        """
        together = b"".join(lines)
        small = together.lower()
        markers = [marker for group, _, _ in _LOOKS for marker in group if marker in small]
        values = [written for value in self._values if (written := _as_written(value)) in together]
        if not markers and not values:
            return lines
        return [self._clean_line(line) if _has(line, markers, values) else line for line in lines]

    def text_cleaned(self, text: str) -> str:
        """A text without them."""
        for value in self._values:
            if value in text:
                text = text.replace(value, REDACTED)
        small = text.lower().encode("utf-8", "replace")
        for group, pattern, replacement in _LOOKS:
            if any(marker in small for marker in group):
                text = pattern.sub(replacement, text)
        return text

    def document_cleaned(self, document: Any, depth: int = 0) -> Any:
        """JSON without them, in whatever text of it."""
        if isinstance(document, str):
            return self.text_cleaned(document)
        if depth > _DEEPEST:
            return "…"
        if isinstance(document, Mapping):
            return {name: self.document_cleaned(value, depth + 1) for name, value in document.items()}
        if isinstance(document, list | tuple):
            return [self.document_cleaned(value, depth + 1) for value in document]
        return document

    def _clean_line(self, line: bytes) -> bytes:
        return orjson.dumps(self.document_cleaned(orjson.loads(line)), option=orjson.OPT_APPEND_NEWLINE)

    def _cleaned(self, value: Any, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            return "…"
        if isinstance(value, Mapping):
            return {
                str(name): REDACTED if self.hides(str(name)) and item is not None else self._cleaned(item, depth + 1)
                for name, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self._cleaned(item, depth + 1) for item in value]
        return value


def without(values: Iterable[str], document: Any) -> Any:
    """JSON whose texts do not hold these values, however they are written there: as they are, quoted, escaped, line by line. Keys
    and numbers stay.
    """
    forms = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
    return _without(forms, document) if forms else document


def _forms(value: str) -> Iterator[str]:
    for form in (value, *value.splitlines()):
        yield from (
            written
            for written in (
                form,
                repr(form)[1:-1],
                _as_written(form).decode("utf-8", "replace"),
                quote(form, safe=""),
                quote_plus(form),
            )
            if len(written) >= _SHORTEST_GIVEN
        )


def _without(forms: Sequence[str], document: Any) -> Any:
    if isinstance(document, str):
        for form in forms:
            document = document.replace(form, REDACTED)
        return document
    if isinstance(document, Mapping):
        return {name: _without(forms, value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [_without(forms, value) for value in document]
    return document


def _as_written(value: str) -> bytes:
    """As it stands in a line of JSON."""
    try:
        return orjson.dumps(value)[1:-1]
    except orjson.JSONEncodeError:
        return value.encode("utf-8", "replace")


def _has(line: bytes, markers: list[bytes], values: list[bytes]) -> bool:
    small = line.lower()
    return any(marker in small for marker in markers) or any(value in line for value in values)


SHARED: Final = Redactions()
"""What all logs of this process leave out: values of secrets while the vault is open."""
