"""`discover`, or `python -m discover`: the command line; Ctrl-C may end it as it loads."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; see `discover.cli.main`."""
    try:
        from discover.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(130)
    command_line()


if __name__ == "__main__":
    main()
