"""The vault: keys, and what they protect. Nothing here knows of the database; what lies there is sealed and opened by ``secrets``.

The folder holds ``master-config.enc.json`` (``document``), which anybody may read and nobody can use without a secret that opens it:

    passphrase ─ PBKDF2 or Argon2id ─┐
    PERSISTENCE_VAULT_KEY ─ HKDF ────┼─► root key ─► master key of each term ─► data key of each tenant and term, or subject ─► secrets, personal data
    key file ─ HKDF ─────────────────┘

- *rotate* begins a term: what is wrapped from then on is wrapped with a new master key, and what was wrapped before stays readable.
- *rewrap* brings what older terms hold into the last; then those can be ended.
- *rekey* makes a new root key: it costs the same however much there is, and no old copy of the file, with whatever opened it, opens a later one.
- Ciphertexts are bound to where they belong (vault, tenant, name, version, term): moved elsewhere they do not open.
- Every write of the file is a new generation, in place whole or not at all. The log remembers the last one, so an older file is noticed.
- Open keys are in memory that is not swapped out or dumped, and are emptied at ``auto_lock_timeout``, on command, and on SIGUSR1 (``key_memory`` says
  how far that goes).

What it does not protect from: somebody who is this process's user, or root, while the vault is open.
"""

from persistence.vault.configuration import VaultConfig, read_vault_config
from persistence.vault.keys import Keys, Opener
from persistence.vault.vault import Vault

__all__ = ["Keys", "Opener", "Vault", "VaultConfig", "read_vault_config"]
