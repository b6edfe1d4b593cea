"""Every error this package raises: one tree, each says what happened and what to do next."""


class PersistenceError(Exception):
    """Something the persistence plane refused or could not do.

    hint: the next step, where there is one. field: the name of what was wrong. sqlstate, constraint: what the database said.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        field: str | None = None,
        sqlstate: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
        self.sqlstate = sqlstate
        self.constraint = constraint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigurationError(PersistenceError):
    """A setting is missing or wrong."""


class ServerError(PersistenceError):
    """The server is missing, too old, unreachable or not migrated."""


class InvalidInput(PersistenceError):
    """A value cannot be stored; the message names its field."""


class TooLarge(InvalidInput):
    """An event or a batch exceeds its limit."""


class MalformedData(InvalidInput):
    """What was sent as data is no JSON object, or its scope is none."""


class UnknownEventType(InvalidInput):
    """An event type or version that the canon does not know."""


class InvalidTransition(PersistenceError):
    """The state machine does not allow this event in this status."""


class Conflict(PersistenceError):
    """Somebody else changed the aggregate since it was read. Read it again and decide anew."""


class NotFound(PersistenceError):
    """There is no such thing in this tenant."""


class IdempotencyMismatch(PersistenceError):
    """An id or idempotency key that is known already came with other content."""


class SignalKnown(PersistenceError):
    """A signal from this source was received already."""


class TenantDenied(PersistenceError):
    """The user does not belong to the tenant."""


class NotAuthenticated(PersistenceError):
    """Nobody is known by this token."""


class LawBroken(PersistenceError):
    """A migration would take away what the canon protects. The message names the check."""


class PermissionDenied(PersistenceError):
    """The connecting role may not do this."""


class AppendOnly(PersistenceError):
    """What happened cannot be changed or deleted."""


class DeliveryUnderway(PersistenceError):
    """The effect is being delivered at this moment."""


class Unavailable(PersistenceError):
    """The database did not answer, or kept failing, for as long as was allowed."""


class StorageFull(PersistenceError):
    """There is no room left on the disk, or the quota is used up."""


class VaultLocked(PersistenceError):
    """The vault is locked: its keys are in nobody's memory."""


class NoVault(VaultLocked):
    """There is no vault yet."""


class UnlockRefused(PersistenceError):
    """The vault does not open with this, or not yet."""


class VaultDamaged(PersistenceError):
    """The vault, or what it sealed, is not as it was written: changed, moved, cut off, or of an earlier day."""


class SecretUnavailable(PersistenceError):
    """The secret is over: read as often as it may be, past its time, or destroyed."""


class Erased(PersistenceError):
    """The key of what was sealed was destroyed, and nobody can read it any more."""


class LeaseLost(PersistenceError):
    """A run is another executor's by now, or has ended: nothing was recorded."""


class FlowError(PersistenceError):
    """A flow does what flows may not, or cannot go on as it is written."""


class TookAnotherWay(FlowError):
    """A flow did something else at a position than it did before: its code was changed, or it is not deterministic."""


class StepFailed(PersistenceError):
    """A step, a tool, an effect or a child of a flow failed for good.

    name: of the step. type, detail: what it failed with, as it was recorded.
    """

    def __init__(self, name: str, type: str, detail: str) -> None:  # noqa: A002  the word of the record
        super().__init__(f"{name}: {type}: {detail}")
        self.name = name
        self.type = type
        self.detail = detail


class EffectFailed(StepFailed):
    """An effect that a flow waits for was not delivered, and will not be."""


class ChildFailed(StepFailed):
    """A child of a flow failed or was cancelled."""


class TimedOut(StepFailed):
    """A signal did not come in time."""


class FlowFailed(PersistenceError):
    """The run of a flow failed, or was cancelled. type, detail: what it ended with, as it was recorded."""

    def __init__(self, message: str, type: str, detail: str) -> None:  # noqa: A002  the word of the record
        super().__init__(message)
        self.type = type
        self.detail = detail


class FlowCancelled(FlowFailed):
    """The run of a flow was cancelled."""


class ImportFailed(PersistenceError):
    """A file could not be read; the message names file, place and what is wrong."""


def first_problem(error: ValueError) -> tuple[str, str]:
    """Of what a validation found, the first: the name of the field, and what is wrong with it."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return "", str(error)
    found = errors()[0]
    return ".".join(str(part) for part in found["loc"]), found["msg"].removeprefix("Value error, ")


def invalid(error: ValueError, subject: str) -> InvalidInput:
    """What a validation found. subject: what is wrong where no single field is."""
    field, problem = first_problem(error)
    return InvalidInput(f"{field or subject}: {problem}", field=field or subject)
