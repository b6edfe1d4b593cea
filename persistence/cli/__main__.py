"""``python -m persistence.cli``."""

from persistence.cli import main

main()
