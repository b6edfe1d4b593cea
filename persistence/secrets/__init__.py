"""Secrets of tenants, and personal data that can be erased: what the vault seals and the log records.

What is sealed lies in the database; the keys that open it do not (``vault``). So a value takes both, and the database gives its part in the same
transaction in which it records who asked, and what for.
"""

from persistence.secrets.recorded_vault import RecordedVault, open_vault
from persistence.secrets.store import Secrets
from persistence.secrets.subjects import SubjectKey, Subjects
from persistence.secrets.values import SecretValue

__all__ = ["RecordedVault", "SecretValue", "Secrets", "SubjectKey", "Subjects", "open_vault"]
