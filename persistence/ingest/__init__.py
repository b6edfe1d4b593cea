"""Data that comes in: durable on local disk, readable at once, then on the record.

A post names its *scope*, ``source.category[.subcategory]``, and carries one JSON object. It becomes a *data file*, an envelope around that
object, in a tree that is its tenant's alone::

    <folder>/<tenant>/data/<source>/<category>[/<subcategory>]/2026-01-21T10-00-00Z.json
    <folder>/<tenant>/index.db
    <folder>/store.id

A post passes through these steps, many posts together in each of them::

    draft ──► sync ──► publish ──► index and journal ──► answered: stored ──► signal, rule, run ──► recorded
    write     file     rename,     one transaction                            one transaction
                       folder      of SQLite                                  of PostgreSQL

Whatever ends the process between two of them, nothing that was answered is lost, and no file is seen before it is whole:

- a *draft* lies in the folder of the file it will be, under its name with a dot before it and ``.tmp`` behind it. Made exclusively, it keeps
  that name for its writer; locked (flock), it tells that its writer lives. A draft that nobody locks is rubbish.
- files are *published*, rows written and files deleted under the write lock of ``index.db``, so that processes that share a tree never see each
  other half done.
- a published file without a row was not answered. ``reconcile``, which each service does at its start, indexes it and puts it on the record.

The files are the truth. The *registry* (table ``data_files``) is a projection of them and can be rebuilt. The *journal* (in the same database,
and no projection) holds what PostgreSQL has not been told: that a file was stored or deleted, by whom and under which correlation. The *recorder*
tells it, in order, whenever the database is there; the signal's name in its channel is made of file and store alone, so telling it twice
changes nothing. A *rule* that fits the scope starts a run in the transaction that receives the signal.
"""

from persistence.ingest.envelope import DataFileEnvelope, IngestResponse, create_data_file_envelope
from persistence.ingest.intake import DATA_INGEST_MAX_SIZE, Ingest, Receipt, open_ingest
from persistence.ingest.rules import RuleFile, Rules
from persistence.ingest.scopes import parse_scope, scope_to_path_segments

__all__ = [
    "DATA_INGEST_MAX_SIZE",
    "DataFileEnvelope",
    "Ingest",
    "IngestResponse",
    "Receipt",
    "RuleFile",
    "Rules",
    "create_data_file_envelope",
    "open_ingest",
    "parse_scope",
    "scope_to_path_segments",
]
