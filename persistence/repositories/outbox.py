"""Outbox entries: read here, moved by the worker and by operators."""

from persistence.database.tables import OUTBOX_EVENTS
from persistence.models import OutboxEntry
from persistence.repositories.rows import RowReader


class OutboxRepository(RowReader[OutboxEntry]):
    """The records of effects on their way out. An entry has the id of its effect."""

    table = OUTBOX_EVENTS
    model = OutboxEntry
