"""The architectural law as data: aggregates, state machines, event types, tables and rules, read from the files of ``canon/``.

The migrations load the same files into schema ``canon``, so the database and this process apply one law. ``CANON`` is what this package ships.
"""

from functools import cache

from persistence.canon.book import NEW, Canon
from persistence.canon.parts import Aggregate, EventType, ForeignKey, IndexContract, TableContract, Transition
from persistence.resources import resource


@cache
def _shipped() -> Canon:
    return Canon.read(resource("canon"))


CANON = _shipped()

__all__ = ["CANON", "NEW", "Aggregate", "Canon", "EventType", "ForeignKey", "IndexContract", "TableContract", "Transition"]
