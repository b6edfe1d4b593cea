"""A secret's value, as it is handed out."""

from types import TracebackType
from typing import Self

from persistence.errors import InvalidInput, VaultLocked
from persistence.vault.key_memory import wipe


class SecretValue:
    """The value of a secret. Use it as ``with await plane.secrets.read(…) as value``: leaving the block empties it.

    It does not show itself: not as text, not in a log, not in a traceback. name, number: of which secret and version.
    """

    __slots__ = ("_is_wiped", "_value", "name", "number")

    def __init__(self, name: str, number: int, value: bytearray) -> None:
        self.name = name
        self.number = number
        self._value = value
        self._is_wiped = False

    @property
    def text(self) -> str:
        """As text. Raises InvalidInput for bytes that are none, VaultLocked once it is wiped.

        Python keeps it until it is used no more, and empties it never: for longer than a moment, prefer ``view``.
        """
        try:
            return self._held().decode()
        except UnicodeDecodeError:
            raise InvalidInput(
                f"secret {self.name!r}: its value is no text", hint="use view, which gives the bytes", field="value"
            ) from None

    @property
    def view(self) -> memoryview:
        """The bytes themselves, without a copy."""
        return memoryview(self._held())

    def wipe(self) -> None:
        """Empties it."""
        wipe(self._value)
        self._is_wiped = True

    def _held(self) -> bytearray:
        if self._is_wiped:
            raise VaultLocked(f"the value of secret {self.name!r} is wiped", hint="use it within the block that read it")
        return self._value

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"SecretValue({self.name!r}, version {self.number})"
