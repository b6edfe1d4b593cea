"""The envelope of a data file: what it holds, of which scope, since when."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from persistence.errors import MalformedData
from persistence.ingest.paths import check_collected_at
from persistence.models.base import Json, Model


def _checked(text: str) -> str:
    try:
        return check_collected_at(text)
    except MalformedData as error:
        raise ValueError(str(error)) from error


CollectedAt = Annotated[str, AfterValidator(_checked)]


class _Camel(Model):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class DataFileEnvelope(_Camel):
    """A data file. data: what was posted."""

    version: Literal["1.0"]
    scope: str
    collected_at: CollectedAt = Field(alias="collectedAt")
    data: dict[str, Json]


class IngestResponse(_Camel):
    """The answer to a post. collectedAt: the file's name within its scope. recorded: whether the database knows of it yet; it will."""

    scope: str = Field(examples=["github.issues"])
    collected_at: CollectedAt = Field(alias="collectedAt", examples=["2026-01-21T10:00:00Z"])
    status: Literal["stored"] = "stored"
    recorded: bool = False


def create_data_file_envelope(scope: str, collected_at: str, data: dict[str, Json]) -> DataFileEnvelope:
    """An envelope of the present version. Raises pydantic's ValidationError."""
    return DataFileEnvelope(version="1.0", scope=scope, collectedAt=collected_at, data=data)


def head(scope: str, collected_at: str) -> bytes:
    """What a data file begins with, up to the posted bytes. Both texts need no escapes."""
    return f'{{"version":"1.0","scope":"{scope}","collectedAt":"{collected_at}","data":'.encode()


TAIL = b"}"
"""What a data file ends with, after the posted bytes."""
