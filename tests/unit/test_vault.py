"""The vault without a database: vectors, every byte of its file, what opens it, when it locks, what is left in memory."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from hypothesis import given, settings
from hypothesis import strategies as st

from persistence.errors import (
    ConfigurationError,
    Conflict,
    InvalidInput,
    NotFound,
    NoVault,
    UnlockRefused,
    VaultDamaged,
    VaultLocked,
)
from persistence.models import new_id
from persistence.vault import Keys, Opener, Vault, VaultConfig, read_vault_config
from persistence.vault.aead import Unsealable, _sealed, bound_to, decrypt, seal, seal_alike, unseal
from persistence.vault.derivation import FEWEST_ITERATIONS, MOST_ITERATIONS, Argon2, Pbkdf2, new_salt, pbkdf2
from persistence.vault.document import decode
from persistence.vault.vault import read_key_file, write_key_file

PHRASE = "correct horse battery staple"
KEY = bytes(range(32))
CONFIG = VaultConfig(iterations=FEWEST_ITERATIONS)
VECTORS = files("cryptography_vectors")


def phrase(text: str = PHRASE, name: str | None = None) -> Opener:
    return Opener("passphrase", bytearray(text.encode()), name)


def by_key(key: bytes = KEY) -> Opener:
    return Opener("environment", bytearray(key))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    vault = Vault(tmp_path / "vault", CONFIG)
    vault.create([phrase(), by_key()])
    yield vault
    vault.lock()


# Vectors of others


def nist(name: str) -> Iterator[dict[str, str]]:
    """The cases of a .rsp file of NIST's CAVP, each with the lengths of its group."""
    group: dict[str, str] = {}
    case: dict[str, str] = {}
    for line in [*VECTORS.joinpath("ciphers/AES/GCM", name).read_text().splitlines(), ""]:
        if found := re.fullmatch(r"\[(\w+) = (\d+)\]", line):
            if case:
                yield {**group, **case}
                case = {}
            group[found[1]] = found[2]
        elif found := re.fullmatch(r"(\w+) = ?(.*)", line):
            if found[1] == "Count" and case:
                yield {**group, **case}
                case = {}
            case[found[1]] = found[2]
        elif line == "FAIL":
            case["FAIL"] = "yes"
    if case:
        yield {**group, **case}


def test_aes_256_gcm_is_that_of_nist() -> None:
    """Of 15,750 cases those with whole tags and nonces of 8 bytes or more come out right; the others are refused."""
    right = refused = 0
    for name in ("gcmEncryptExtIV256.rsp", "gcmDecrypt256.rsp"):
        for case in nist(name):
            key, nonce, text, aad, tag = (bytes.fromhex(case.get(part, "")) for part in ("Key", "IV", "CT", "AAD", "Tag"))
            try:
                plain = decrypt(key, nonce, text, tag, aad)
            except Unsealable:
                if len(tag) == 16 and len(nonce) >= 8:
                    assert "FAIL" in case, case
                    right += 1
                else:
                    refused += 1
                continue
            assert plain.hex() == case["PT"]
            assert "FAIL" not in case
            right += 1
    assert (right, refused) == (1_500, 14_250)


def test_xaes_is_that_of_its_specification() -> None:
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    assert (
        _sealed(b"\x01" * 32, nonce, b"XAES-256-GCM", b"")[24:].hex() == "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"
    )
    sealed = _sealed(b"\x03" * 32, nonce, b"XAES-256-GCM", b"c2sp.org/XAES-256-GCM")
    assert sealed[24:].hex() == "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"


def test_pbkdf2_is_that_of_rfc_6070() -> None:
    cases = re.findall(
        r"PASSWORD = (.*)\nSALT = (.*)\nITERATIONS = (\d+)\nLENGTH = (\d+)\nDERIVED_KEY = (\w+)",
        VECTORS.joinpath("KDF/rfc-6070-PBKDF2-SHA1.txt").read_text(),
    )
    assert len(cases) >= 5
    for password, salt, iterations, length, derived in cases:
        if int(iterations) > 100_000:
            continue
        into = bytearray(int(length))
        raw = [text.encode().decode("unicode_escape").encode() for text in (password, salt)]
        pbkdf2(SHA1(), raw[0], raw[1], int(iterations), into)
        assert into.hex() == derived.lower()


def test_pbkdf2_with_sha_256_is_that_of_rfc_7914() -> None:
    into = bytearray(64)
    pbkdf2(SHA256(), b"passwd", b"salt", 1, into)
    assert into.hex() == (
        "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
        "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"
    )


# Sealing


@given(st.binary(max_size=300), st.binary(max_size=50), st.data())
def test_what_is_sealed_opens_in_its_place_alone(plain: bytes, place: bytes, data: st.DataObject) -> None:
    sealed = seal(KEY, plain, place)
    assert unseal(KEY, sealed, place) == plain
    at = data.draw(st.integers(0, len(sealed) - 1))
    changed = bytearray(sealed)
    changed[at] ^= data.draw(st.integers(1, 255))
    for key, text, where in (
        (KEY, bytes(changed), place),
        (KEY, sealed, place + b"x"),
        (bytes(32), sealed, place),
        (KEY, sealed[:-1], place),
    ):
        with pytest.raises(Unsealable):
            unseal(key, text, where)


def test_places_do_not_read_alike() -> None:
    assert bound_to("a", "bc") != bound_to("ab", "c") != bound_to("ab", "", "c")


def test_nothing_is_sealed_the_same_way_twice_but_what_is_to_be() -> None:
    assert len({seal(KEY, b"x", b"") for _ in range(1000)}) == 1000
    assert len({seal_alike(KEY, b"n" * 32, b"x", b"") for _ in range(10)}) == 1
    assert len({seal_alike(KEY, b"n" * 32, b"x", bytes([n])) for n in range(10)}) == 10


@pytest.mark.parametrize("iterations", [0, 1, FEWEST_ITERATIONS - 1, MOST_ITERATIONS + 1, 2**31])
def test_iterations_have_bounds(iterations: int) -> None:
    with pytest.raises(ValueError, match="iterations"):
        Pbkdf2(salt=new_salt(), iterations=iterations)
    with pytest.raises(ValueError, match="memory"):
        Argon2(salt=new_salt(), memory=2**31)


# The file


def test_the_file_has_the_names_of_the_specification(vault: Vault) -> None:
    assert vault.file.path.name == "master-config.enc.json"
    assert vault.file.path.stat().st_mode & 0o777 == 0o600
    assert vault.file.folder.stat().st_mode & 0o777 == 0o700
    said = json.loads(vault.file.path.read_text())
    assert said["unlockers"][0]["derivation"]["name"] == "pbkdf2-hmac-sha256"


def test_the_default_is_600_000_iterations(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.create([phrase()])
    vault.lock()
    begun = time.perf_counter()
    vault.unlock(phrase())
    assert vault.document().unlockers[0].derivation.iterations == 600_000  # type: ignore[union-attr]
    assert time.perf_counter() - begun < 30


def test_argon2id_is_a_choice(tmp_path: Path) -> None:
    vault = Vault(tmp_path, VaultConfig(kdf="argon2id"))
    vault.create([phrase()])
    vault.lock()
    vault.unlock(phrase())
    assert vault.document().unlockers[0].derivation.name == "argon2id"


def test_a_byte_of_the_file_that_was_changed_is_noticed(vault: Vault) -> None:
    """Every byte of it: it does not open, or it opens nothing that was not there before."""
    vault.change(lambda keys: keys.with_entry("dsn", "agent_config", bytearray(b"postgresql://x")))
    raw = vault.file.path.read_bytes()
    for at in range(len(raw)):
        for bits in (1, 0x20, 0x80):
            changed = raw[:at] + bytes([raw[at] ^ bits]) + raw[at + 1 :]
            try:
                keys = Keys.opened(decode(changed, "f"), changed, by_key(), "f")
            except VaultDamaged:
                continue
            assert keys is None, f"byte {at}: {raw[max(0, at - 20) : at + 20]!r}"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_anything_else_is_no_vault(raw: bytes) -> None:
    with pytest.raises(VaultDamaged):
        decode(raw, "f")


def test_a_part_of_another_vaults_file_does_not_fit(vault: Vault, tmp_path: Path) -> None:
    other = Vault(tmp_path / "other", CONFIG)
    other.create([by_key()])
    mine, theirs = (json.loads(v.file.path.read_text()) for v in (vault, other))
    for field in ("terms", "index_key", "unlockers", "vault_id", "mac"):
        mixed = json.dumps({**mine, field: theirs[field]}, indent=2, sort_keys=True).encode() + b"\n"
        with pytest.raises(VaultDamaged):
            assert Keys.opened(decode(mixed, "f"), mixed, by_key(), "f") is None
            raise VaultDamaged("not opened")
    other.lock()


def test_a_symlink_or_a_folder_is_no_vault(vault: Vault, tmp_path: Path) -> None:
    raw = vault.file.path.read_bytes()
    vault.lock()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(raw)
    vault.file.path.unlink()
    vault.file.path.symlink_to(elsewhere)
    with pytest.raises(VaultDamaged, match="plain file"):
        vault.unlock(by_key())
    vault.file.path.unlink()
    vault.file.path.mkdir()
    with pytest.raises((VaultDamaged, OSError)):
        vault.unlock(by_key())


# Opening and locking


def test_each_unlocker_opens_it_and_nothing_else_does(vault: Vault, tmp_path: Path) -> None:
    vault.change(lambda keys: keys.with_unlocker(Opener("key-file", write_key_file(tmp_path / "key")), Pbkdf2, FEWEST_ITERATIONS))
    vault.change(lambda keys: keys.with_unlocker(phrase("another long phrase", "second"), Pbkdf2, FEWEST_ITERATIONS))
    for opener in (phrase(), phrase("another long phrase"), by_key(), Opener("key-file", read_key_file(tmp_path / "key"))):
        vault.lock()
        with pytest.raises(VaultLocked):
            vault.use(lambda keys: None)
        vault.unlock(opener)
        assert vault.is_unlocked
    vault.lock()
    with pytest.raises(UnlockRefused, match="does not open"):
        vault.unlock(by_key(bytes(32)))
    with pytest.raises(Conflict, match="already"):
        vault.create([phrase()])


def test_weak_secrets_are_refused(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "v", CONFIG)
    with pytest.raises(InvalidInput, match="passphrase"):
        vault.create([phrase("short")])
    with pytest.raises(InvalidInput, match="environment"):
        vault.create([Opener("environment", bytearray(b"x"))])
    with pytest.raises(NoVault, match="vault init"):
        vault.use(lambda keys: None)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_key_file(tmp_path / "key")
    with pytest.raises(ConfigurationError, match="cannot be made"):
        write_key_file(tmp_path / "key")


def test_wrong_passphrases_are_slowed_and_the_right_one_ends_that(vault: Vault) -> None:
    vault.lock()
    attempts = vault.file.folder / "attempts.json"
    for number in range(1, 4):
        with pytest.raises(UnlockRefused, match="does not open"):
            vault.unlock(phrase("not the right one"))
        with pytest.raises(UnlockRefused, match=f"{number} attempts"):
            vault.unlock(phrase())
        said = json.loads(attempts.read_text())
        assert said["failures"] == number
        attempts.write_text(json.dumps({**said, "failed_at": said["failed_at"] - 2**number}))  # as if so much time had gone
    vault.unlock(phrase())
    assert json.loads(attempts.read_text())["failures"] == 0
    vault.lock()
    attempts.write_text("nonsense")
    with pytest.raises(UnlockRefused, match="1 attempts"):
        vault.unlock(phrase())
    vault.unlock(by_key())  # 256 bits cannot be tried through


@pytest.mark.parametrize(
    "planted", ["1e999", "9" * 400, "[" * 4000, '{"failures": 3, "failed_at": NaN, "last_step": 0}', "fifo", "link"]
)
def test_what_is_planted_beside_it_locks_nobody_out_for_long(vault: Vault, planted: str) -> None:
    vault.lock()
    attempts = vault.file.folder / "attempts.json"
    attempts.unlink(missing_ok=True)
    if planted == "fifo":
        os.mkfifo(attempts)
    elif planted == "link":
        attempts.symlink_to("/dev/zero")
    else:
        attempts.write_text(planted)
    os.utime(attempts, (0, 0), follow_symlinks=False)
    vault.unlock(phrase())
    vault.lock()
    attempts.write_text(
        json.dumps({"failures": 9, "failed_at": time.time() + 10**8, "last_step": 0})
    )  # as by a clock that was set back
    os.utime(attempts, (0, 0))
    vault.unlock(phrase())


@pytest.mark.parametrize("name", ["master-config.enc.json.lock", "master-config.enc.json"])
def test_a_folder_in_its_place_is_said(vault: Vault, name: str) -> None:
    vault.lock()
    (vault.file.folder / name).unlink(missing_ok=True)
    (vault.file.folder / name).mkdir()
    with pytest.raises(VaultDamaged, match=name):
        vault.unlock(phrase())


def test_attempts_at_the_same_time_are_made_one_after_the_other(vault: Vault) -> None:
    vault.lock()
    refusals: list[str] = []

    def try_it() -> None:
        try:
            Vault(vault.file.folder, CONFIG).unlock(phrase("not the right one"))
        except UnlockRefused as error:
            refusals.append(error.message)

    threads = [threading.Thread(target=try_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("does not open" in message for message in refusals) == 1


def test_a_second_factor_is_asked_for_and_taken_once(vault: Vault) -> None:
    secret = bytearray(os.urandom(20))
    totp = TOTP(bytes(secret), 6, SHA1(), 30)
    vault.change(lambda keys: keys.with_second_factor(secret))
    vault.lock()
    attempts = vault.file.folder / "attempts.json"
    with pytest.raises(UnlockRefused, match="one-time code"):
        vault.unlock(phrase())
    attempts.unlink()
    code = totp.generate(int(time.time())).decode()
    vault.unlock(phrase(), code)
    vault.lock()
    with pytest.raises(UnlockRefused, match="used already"):
        vault.unlock(phrase(), code)
    vault.unlock(by_key())  # programs have no authenticator
    vault.change(lambda keys: keys.with_second_factor(None))
    vault.lock()
    attempts.unlink()
    vault.unlock(phrase())


def test_it_locks_itself_when_nobody_uses_it(tmp_path: Path) -> None:
    vault = Vault(tmp_path, VaultConfig(auto_lock_timeout=timedelta(seconds=0.2)))
    vault.create([by_key()])
    keys = vault._keys
    assert keys is not None
    root = keys._root.view
    deadline = time.monotonic() + 30
    while vault._keys is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert bytes(root) == bytes(32)
    with pytest.raises(VaultLocked):
        vault.use(lambda keys: None)


def test_it_locks_itself_after_its_greatest_age_though_it_is_used(tmp_path: Path) -> None:
    vault = Vault(tmp_path, VaultConfig(max_unlocked=timedelta(seconds=0.3)))
    vault.create([by_key()])
    deadline = time.monotonic() + 30
    with pytest.raises(VaultLocked):
        while time.monotonic() < deadline:
            vault.use(lambda keys: None)
            time.sleep(0.01)


def test_what_the_environment_gives_opens_it_again_but_not_after_a_command(vault: Vault) -> None:
    own = Vault(vault.file.folder, CONFIG, [by_key()])
    assert own.use(lambda keys: keys.document.last_term) == 1
    own.lock()
    assert own.use(lambda keys: keys.document.last_term) == 1
    vault.lock_everywhere()
    assert not own.is_unlocked
    with pytest.raises(VaultLocked, match="by command"):
        own.use(lambda keys: None)
    vault.unlock(by_key())
    assert own.use(lambda keys: keys.document.last_term) == 1
    own.lock()


def test_a_folder_that_cannot_be_written_opens_all_the_same(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the file is mounted read-only. (Permissions do not hold a superuser, so the calls themselves are refused.)"""
    vault.lock()
    really = os.open

    def refused(path: object, flags: int, *more: object, **named: object) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system")
        return really(path, flags, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setattr("persistence.vault.attempts._BLIND_WAIT", 0)
    vault.unlock(phrase())
    vault.lock()
    vault.unlock(by_key())


# Terms


def test_a_new_term_leaves_the_old_readable_and_can_end_it(vault: Vault) -> None:
    tenant, key_id = new_id(), new_id()
    wrapped, term = vault.use(lambda keys: keys.new_data_key(tenant, key_id, ""))
    vault.change(lambda keys: keys.with_entry("a", "token", bytearray(b"old")))
    vault.change(lambda keys: keys.rotated())
    assert vault.use(lambda keys: keys.data_key(tenant, key_id, "", term, wrapped)).view.nbytes == 32
    assert vault.use(lambda keys: keys.entry("a")) == b"old"
    with pytest.raises(InvalidInput, match="rewrap"):
        vault.change(lambda keys: keys.without_terms_before(2))
    vault.change(lambda keys: keys.rewrapped_entries())
    vault.change(lambda keys: keys.without_terms_before(2))
    assert vault.use(lambda keys: keys.entry("a")) == b"old"
    with pytest.raises(NotFound, match="term 1"):
        vault.use(lambda keys: keys.data_key(tenant, key_id, "", term, wrapped))


def test_a_data_key_opens_for_its_own_tenant_subject_and_term(vault: Vault) -> None:
    tenant, key_id = new_id(), new_id()
    wrapped, term = vault.use(lambda keys: keys.new_data_key(tenant, key_id, "s"))
    vault.lock()
    vault.unlock(by_key())
    for place in ((new_id(), key_id, "s"), (tenant, new_id(), "s"), (tenant, key_id, "")):
        with pytest.raises(VaultDamaged):
            vault.use(lambda keys, place=place: keys.data_key(*place, term, wrapped))
    vault.change(lambda keys: keys.with_erased(tenant, [key_id]))
    with pytest.raises(VaultDamaged, match="destroyed"):
        vault.use(lambda keys: keys.data_key(tenant, key_id, "s", term, wrapped))


def test_after_rekeying_nothing_of_before_opens_the_new_file(vault: Vault) -> None:
    """Not even together with the old file: its root key is another one."""
    old = vault.file.path.read_bytes()
    vault.change(lambda keys: keys.with_entry("a", "token", bytearray(b"x")))
    vault.change(lambda keys: keys.rekeyed([phrase("another long phrase")], Pbkdf2, FEWEST_ITERATIONS))
    vault.lock()
    for opener in (phrase(), by_key()):
        with pytest.raises(UnlockRefused):
            vault.unlock(opener)
    (vault.file.folder / "attempts.json").unlink()
    old_keys = Keys.opened(decode(old, "f"), old, by_key(), "f")
    assert old_keys is not None
    with pytest.raises(VaultDamaged):
        Keys(vault.document(), old_keys._root, opened_by="thief")
    vault.unlock(phrase("another long phrase"))
    assert vault.use(lambda keys: keys.entry("a")) == b"x"


def test_a_process_takes_on_what_another_made_of_the_file(vault: Vault) -> None:
    """A later term above all: what is wrapped in one that has ended nobody could open."""
    tenant, key_id = new_id(), new_id()
    other = Vault(vault.file.folder, CONFIG, [by_key()])
    other.change(lambda keys: keys.rotated())
    assert vault.use(lambda keys: keys.new_data_key(tenant, key_id, ""))[1] == 2
    assert vault.change(lambda keys: keys.rotated()).last_term == 3
    wrapped, term = other.use(lambda keys: keys.new_data_key(tenant, new_id(), ""))
    assert (term, len(wrapped)) == (3, 96)
    other.change(lambda keys: keys.rekeyed([phrase("another long phrase")], Pbkdf2, FEWEST_ITERATIONS))
    with pytest.raises(VaultLocked):  # and what was rekeyed has to be opened anew
        vault.use(lambda keys: None)
    other.lock()


def test_changes_at_the_same_time_are_made_one_after_the_other(vault: Vault) -> None:
    told: list[int] = []
    others = [Vault(vault.file.folder, CONFIG, [by_key()]) for _ in range(4)]
    threads = [
        threading.Thread(target=other.change, args=(lambda keys: keys.rotated(), lambda document: told.append(document.generation)))
        for other in others
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == list(range(2, 14))
    assert vault.use(lambda keys: keys.document.last_term) == 13
    for other in others:
        other.lock()


def test_locking_by_command_holds_also_for_who_is_just_opening(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.lock()
    own = Vault(vault.file.folder, CONFIG, [by_key()])
    really = Vault._tried

    def tried(self: Vault, opener: Opener) -> Keys:
        keys = really(self, opener)
        vault.lock_everywhere()
        return keys

    monkeypatch.setattr(Vault, "_tried", tried)
    with pytest.raises(VaultLocked, match="by command"):
        own.use(lambda keys: None)
    assert own.is_locked_by_command
    assert not own.is_unlocked


def test_a_forked_process_has_no_keys_and_takes_none_away(vault: Vault) -> None:
    tenant = new_id()
    kept = vault.use(lambda keys: keys._root)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if not vault.is_unlocked and bytes(kept._page[:32]) == bytes(32):
                try:
                    _ = kept.view
                except VaultLocked:
                    vault.lock()
                    status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes(kept.view) != bytes(32)
    wrapped, term = vault.use(lambda keys: keys.new_data_key(tenant, tenant, ""))
    vault.lock()
    vault.unlock(by_key())
    assert vault.use(lambda keys: keys.data_key(tenant, tenant, "", term, wrapped)).view.nbytes == 32


def test_a_wiped_key_seals_nothing(vault: Vault) -> None:
    key = vault.use(lambda keys: keys._root)
    vault.lock()
    with pytest.raises(VaultLocked):
        _ = key.view


# Ends of processes, full disks


STEPS = ("open", "write", "fsync", "replace", "sync")
KILLED = """
import os, sys
from pathlib import Path
from persistence.vault import Opener, Vault, VaultConfig
from persistence.vault import file
from persistence.vault.derivation import Pbkdf2
folder, step, change, key = sys.argv[1:]
opener = lambda: Opener("environment", bytearray.fromhex(key))
vault = Vault(Path(folder), VaultConfig(iterations=100_000), [opener()])
vault.use(lambda keys: None)
def die(*_, **__): os._exit(137)
class Half:
    def __init__(self, inner): self.inner = inner
    def __enter__(self): return self
    def __exit__(self, *_): self.inner.close()
    def write(self, raw):
        self.inner.write(raw[: len(raw) // 2]); self.inner.flush(); die()
if step == "open": os.unlink_ = die; file.os.fdopen = die
if step == "write":
    really = os.fdopen
    file.os.fdopen = lambda place, mode="r": Half(really(place, mode)) if "w" in mode else really(place, mode)
if step == "fsync": file.os.fsync = die
if step == "replace": file.Path.replace = die
if step == "sync": file.sync_folder = die
changes = {"rotate": lambda keys: keys.rotated(), "rekey": lambda keys: keys.rekeyed([opener()], Pbkdf2, 100_000)}
vault.change(changes[change])
"""


@pytest.mark.parametrize("change", ["rotate", "rekey"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_opens_as_before_or_as_after(vault: Vault, step: str, change: str) -> None:
    vault.change(lambda keys: keys.with_entry("a", "token", bytearray(b"x")))
    before = vault.document()
    vault.lock()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(vault.file.folder), step, change, KEY.hex()], check=False)
    assert killed.returncode == 137
    after = vault.unlock(by_key())
    assert after.generation in {before.generation, before.generation + 1}
    assert vault.use(lambda keys: keys.entry("a")) == b"x"
    assert vault.change(lambda keys: keys.rotated()).generation == after.generation + 1


FULL = """
import resource, signal, sys
from pathlib import Path
from persistence.errors import StorageFull
from persistence.vault import Opener, Vault, VaultConfig
vault = Vault(Path(sys.argv[1]), VaultConfig(iterations=100_000), [Opener("environment", bytearray.fromhex(sys.argv[2]))])
vault.use(lambda keys: None)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    vault.change(lambda keys: keys.rotated())
except StorageFull as error:
    print(error)
    vault.lock()
    vault.unlock(Opener("passphrase", bytearray(sys.argv[3].encode())))
    print("opens")
"""


def test_a_full_disk_leaves_it_as_it_was(vault: Vault) -> None:
    before = vault.file.path.read_bytes()
    vault.lock()
    (vault.file.folder / "attempts.json").unlink(missing_ok=True)
    said = subprocess.run(
        [sys.executable, "-c", FULL, str(vault.file.folder), KEY.hex(), PHRASE], check=True, capture_output=True, text=True
    ).stdout
    assert "the vault is as it was" in said
    assert "opens" in said
    assert vault.file.path.read_bytes() == before
    assert not [path for path in vault.file.folder.iterdir() if path.suffix == ".new" and path.stat().st_size > 200]


MEMORY = """
import sys
from hashlib import sha256
from pathlib import Path
from persistence.vault import Opener, Vault, VaultConfig
folder, key, secret = sys.argv[1:]
del sys.argv[1:]
mask = 0x5A
opener = Opener("environment", bytearray.fromhex(key))
hidden = bytes(int(secret[at : at + 2], 16) ^ mask for at in range(0, len(secret), 2))
del key, secret
vault = Vault(Path(folder), VaultConfig(iterations=100_000))
vault.unlock(opener)
value = vault.use(lambda keys: keys.entry("a"))
roots = bytes(byte ^ mask for byte in vault._keys._root.view)
master = bytes(byte ^ mask for byte in vault._keys._masters[1].view)
def found(hidden):
    # Whether what is hidden is anywhere in the memory of this process. It is looked for byte by byte, so that the search does not put it there.
    head = bytes((hidden[0] ^ mask,))
    for line in open("/proc/self/maps"):
        span, rights, *_ , name = (line.split() + [""])[:6] if len(line.split()) > 5 else (*line.split()[:5], "")
        if not rights.startswith("rw") or name in ("[vvar]", "[vsyscall]"): continue
        first, last = (int(part, 16) for part in span.split("-"))
        block = bytearray(last - first)
        try:
            with open("/proc/self/mem", "rb", 0) as memory:
                memory.seek(first)
                memory.readinto(block)
            at = block.find(head)
            while at >= 0:
                if all(at + n < len(block) and block[at + n] ^ mask == byte for n, byte in enumerate(hidden)): return True
                at = block.find(head, at + 1)
        except OSError: continue
        finally: block[:] = bytes(len(block))  # what was copied to be looked at is not to be found by the next search
    return False
open_ = [found(hidden), found(roots), found(master)]
pages = [vault._keys._root._page, vault._keys._masters[1]._page, vault._keys._index._page]
from persistence.vault.key_memory import wipe
wipe(value)
vault.lock()
print(open_, found(hidden), [any(page[:]) for page in pages])
"""


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no /proc")
def test_after_locking_secrets_are_not_in_memory_and_the_pages_of_keys_are_empty(vault: Vault) -> None:
    secret = os.urandom(24)
    vault.change(lambda keys: keys.with_entry("a", "token", bytearray(secret)))
    vault.lock()
    said = subprocess.run(
        [sys.executable, "-c", MEMORY, str(vault.file.folder), KEY.hex(), secret.hex()], check=True, capture_output=True, text=True
    ).stdout
    assert said.strip() == "[True, True, True] False [False, False, False]"


# Configuration


def test_the_configuration_is_that_of_the_specification(tmp_path: Path) -> None:
    assert read_vault_config(tmp_path) == VaultConfig()
    (tmp_path / "vault_config.yaml").write_text(
        "vault:\n  enabled: true\n  mount_path: /data/vault/\n  encryption: aes-256-gcm\n  kdf: pbkdf2\n  auto_lock_timeout: 15m\n"
    )
    config = read_vault_config(tmp_path)
    assert config.mount_path == Path("/data/vault/")
    assert config.auto_lock_timeout == timedelta(minutes=15)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("vault:\n  colour: red\n", "vault.colour: is not known"),
        ("vault:\n  auto_lock_timeout: soon\n", "no duration"),
        ("vault:\n  auto_lock_timeout: 0s\n", "auto_lock_timeout"),
        ("vault:\n  encryption: rot13\n", "aes-256-gcm"),
        ("vault:\n  iterations: 1000\n", "iterations"),
        ("vaults:\n  enabled: true\n", "one section"),
        ("vault: [", "no YAML"),
        ("vault: " + "[" * 5000, "no YAML"),
        ("vault:\n  max_unlocked: 9999999999999999h\n", "longer than can be counted"),
        ('vault:\n  mount_path: "a\\0b"\n', "no path"),
        ("- vault", "one section"),
    ],
)
def test_a_wrong_configuration_names_file_and_key(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "vault_config.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=problem) as refused:
        read_vault_config(tmp_path)
    assert "vault_config.yaml" in refused.value.message


def test_a_switched_off_vault_does_not_open_by_itself(vault: Vault) -> None:
    own = Vault(vault.file.folder, VaultConfig(enabled=False), [by_key()])
    with pytest.raises(ConfigurationError, match="switched off"):
        own.use(lambda keys: None)


def test_keys_and_values_do_not_show_themselves(vault: Vault) -> None:
    assert b64encode(KEY).decode() not in repr(vault.__dict__)
    assert "…" in repr(vault.use(lambda keys: keys._root))
    assert b64decode(b64encode(KEY)) == KEY
