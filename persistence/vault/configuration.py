"""``vault_config.yaml``."""

from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from persistence.configuration import Duration, PathOption, Section, read_section
from persistence.vault.derivation import DEFAULT_ITERATIONS, FEWEST_ITERATIONS, MOST_ITERATIONS, Argon2, Pbkdf2

FILE: Final = "vault_config.yaml"
SECTION: Final = "vault"


class VaultConfig(Section):
    """Section ``vault``.

    mount_path: the vault's folder; none: vault/ in the data directory. kdf: how a passphrase becomes a key. auto_lock_timeout: locked when it was not
    used for so long; max_unlocked: and when it has been open for so long, used or not. iterations: of PBKDF2.
    """

    enabled: bool = True
    mount_path: PathOption | None = None
    encryption: Literal["aes-256-gcm"] = "aes-256-gcm"
    kdf: Literal["pbkdf2", "argon2id"] = "pbkdf2"
    auto_lock_timeout: Duration = Field(default=timedelta(minutes=15), gt=timedelta(0), le=timedelta(days=365))
    max_unlocked: Duration | None = Field(default=None, gt=timedelta(0))
    iterations: int = Field(default=DEFAULT_ITERATIONS, ge=FEWEST_ITERATIONS, le=MOST_ITERATIONS)

    @property
    def derivation(self) -> type[Pbkdf2 | Argon2]:
        return Pbkdf2 if self.kdf == "pbkdf2" else Argon2


def read_vault_config(folder: Path) -> VaultConfig:
    """What the configuration folder says of the vault. Raises ConfigurationError."""
    return read_section(folder / FILE, SECTION, VaultConfig)
