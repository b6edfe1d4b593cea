"""What processes are forked with. The width of a terminal is read when the console is made."""

import os

os.environ["COLUMNS"] = "200"

import tests.faults.data_poster  # noqa: F401
