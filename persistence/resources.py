"""Where canon, migrations and gates lie: inside the installed package, or at the top of a source checkout."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def resource(name: str) -> Path:
    """The folder of that name, as shipped in the wheel or as it lies in the repository."""
    for folder in (PACKAGE / "bundled" / name, PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the folder {name!r} is missing from this installation of persistence; install it again")
