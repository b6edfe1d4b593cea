"""Settings, read from the environment (``PERSISTENCE_…``) or given as arguments."""

from pathlib import Path
from typing import Annotated, TypedDict
from uuid import UUID

import platformdirs
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from persistence.errors import ConfigurationError

Seconds = Annotated[float, Field(gt=0)]
MEBIBYTE = 1024 * 1024

LIVE_SOCKET = Path("streams") / "live_events.ws"
"""Where in the data directory the service listens besides, for who is on the same machine."""


class Overrides(TypedDict, total=False):
    """The fields of Settings, as arguments."""

    admin_dsn: str | SecretStr | None
    audit_dsn: str | SecretStr | None
    direct_dsn: str | SecretStr | None
    data_dir: str | Path
    backup_dir: str | Path | None
    wal_archive: str | Path | None
    programs_dir: str | Path | None
    ingest_dir: str | Path | None
    snapshot_dir: str | Path | None
    config_dir: str | Path | None
    vault_key: str | SecretStr | None
    vault_key_file: str | Path | None
    vault_passphrase: str | SecretStr | None
    user_id: UUID | None
    context_secret: str | SecretStr | None
    pool_min: int
    pool_max: int
    transaction_pooler: bool
    connect_timeout: float
    statement_timeout: float
    lock_timeout: float
    idle_in_transaction_timeout: float
    retry_for: float
    metrics_token: str | SecretStr | None
    appends_at_once: int
    max_event_bytes: int
    max_batch_events: int
    max_batch_bytes: int


class Settings(BaseSettings):
    """All that can be set. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="PERSISTENCE_", frozen=True, extra="forbid", hide_input_in_errors=True)

    dsn: SecretStr | None = Field(None, description="PostgreSQL for services and workers; none: the embedded server")
    admin_dsn: SecretStr | None = Field(None, description="PostgreSQL for migrations and administration")
    audit_dsn: SecretStr | None = Field(None, description="a login with persistence_auditor, for replay and gates; none: admin_dsn")
    direct_dsn: SecretStr | None = Field(None, description="past the pooler, for LISTEN; none: dsn")
    data_dir: Path = Field(default_factory=lambda: platformdirs.user_data_path("persistence"), description="of the embedded server")

    backup_dir: Path | None = Field(None, description="where backups are kept; none: backups/ in the data directory")
    wal_archive: Path | None = Field(None, description="a folder of archived WAL; the embedded server archives into it")
    programs_dir: Path | None = Field(None, description="PostgreSQL's programs, for backups of servers of another major version")

    snapshot_dir: Path | None = Field(None, description="where snapshots are kept; none: snapshots/ in the data directory")
    ingest_dir: Path | None = Field(None, description="where posted data are kept; none: ingest/ in the data directory")

    config_dir: Path | None = Field(
        None, description="where vault_config.yaml and logging.yaml are; none: config/ in the data directory"
    )
    vault_key: SecretStr | None = Field(None, description="opens the vault: 32 bytes in base64")
    vault_key_file: Path | None = Field(None, description="a file with such a key, which only its owner may read")
    vault_passphrase: SecretStr | None = Field(None, description="opens the vault, where no person does")

    user_id: UUID | None = Field(
        None,
        description="the user in whose name services work unless they say so; none: the installation's, which operators may ask for",
    )
    context_secret: SecretStr | None = Field(
        None, min_length=32, description="proves to the database who enters a tenant, where contexts are signed"
    )

    pool_min: int = Field(1, ge=0, le=1000)
    pool_max: int = Field(10, ge=1, le=1000)
    transaction_pooler: bool = Field(False, description="the DSN leads to a transaction-mode pooler: no session state")
    connect_timeout: Seconds = 10
    statement_timeout: Seconds = 30
    lock_timeout: Seconds = 10
    idle_in_transaction_timeout: Seconds = 60
    retry_for: Seconds = Field(30, description="how long failed transactions are tried again")

    metrics_token: SecretStr | None = Field(None, description="who has it may read /metrics of the service; none: nobody may")

    appends_at_once: int = Field(
        2,
        ge=1,
        le=1000,
        description="transactions of one tenant and user that are sent at the same time; those that come meanwhile go together",
    )

    max_event_bytes: int = Field(1 * MEBIBYTE, ge=1024, le=64 * MEBIBYTE)
    max_batch_events: int = Field(10_000, ge=1, le=100_000)
    max_batch_bytes: int = Field(32 * MEBIBYTE, ge=1024, le=200 * MEBIBYTE)

    @property
    def config_folder(self) -> Path:
        """Where the configuration files are."""
        return self.config_dir or self.data_dir / "config"

    @property
    def service_user(self) -> UUID:
        """The user in whose name services work. Raises ConfigurationError where it is not known."""
        if self.user_id is None:
            raise ConfigurationError(
                "user_id: this login is no operator, so the installation does not tell it the service user",
                hint="set PERSISTENCE_USER_ID to a user who belongs to the tenants it serves: persistence tenant add-user TENANT USER",
                field="user_id",
            )
        return self.user_id
