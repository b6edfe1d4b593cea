"""Durable memory for agent and workflow services on plain PostgreSQL: event log, state machines, transactional outbox, many tenants."""

from persistence.errors import PersistenceError
from persistence.plane import Plane
from persistence.settings import Settings
from persistence.transaction import Transaction

__all__ = ["PersistenceError", "Plane", "Settings", "Transaction"]
