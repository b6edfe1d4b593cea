"""``logging.yaml``."""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator

from persistence.configuration import PathOption, Section, read_section

FILE: Final = "logging.yaml"
SECTION: Final = "logging"
SUFFIX: Final = ".log.jsonl"
NAME: Final = f"kai{SUFFIX}"

Level = Literal["debug", "info", "warning", "error", "critical"]
LEVELS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class LogstashConfig(Section):
    """Where lines are sent, by TCP as JSON Lines."""

    host: str = Field(min_length=1)
    port: int = Field(default=5000, ge=1, le=65535)


class LogConfig(Section):
    """Section ``logging``.

    level: lines below it are left out. output: the file; none: kai.log.jsonl in logs/ of the data directory. Streams have files of their own
    beside it, ``engine.log.jsonl`` for ``engine``. max_days: files that are older go. rotate_size_mb: a file that is larger is put aside, and so
    is one of an earlier day. queue: so many lines wait at most to be written. redact: names of fields whose values are left out, besides those
    that always are. otel: give lines to the OpenTelemetry logs of the process, too.
    """

    level: Level = "info"
    output: PathOption | None = None
    max_days: int = Field(default=30, ge=1, le=36_500)
    rotate_size_mb: float = Field(default=100, gt=0, le=1_000_000)
    queue: int = Field(default=100_000, ge=100, le=10_000_000)
    redact: tuple[str, ...] = ()
    logstash: LogstashConfig | None = None
    otel: bool = False

    @field_validator("output")
    @classmethod
    def _check_suffix(cls, output: Path | None) -> Path | None:
        if output is not None and not output.name.endswith(SUFFIX):
            raise ValueError(f"must end with {SUFFIX}")
        return output

    @property
    def lowest(self) -> int:
        """The level as a number, as Python's logging has them."""
        return LEVELS[self.level]


def read_log_config(folder: Path) -> LogConfig:
    """What the configuration folder says of logs. Raises ConfigurationError."""
    return read_section(folder / FILE, SECTION, LogConfig)
