"""The command line: parse, call, print."""

from __future__ import annotations

import os
import sys

import click

from discover import __version__
from discover.cli import (
    comparing,
    evaluating,
    keeping,
    listing,
    patching,
    queueing,
    searching,
    showing,
    stored,
)
from discover.errors import DiscoverError


def main() -> None:
    """Run the command line; exit 0 done, 2 wrong input, 3 the run failed, 130 interrupted."""
    try:
        code = cli.main(standalone_mode=False)
        # Flush here, where a reader that went away can still be told from a bug.
        sys.stdout.flush()
    except DiscoverError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except (BrokenPipeError, SystemExit):
        # Click ends by itself, with 1, only where a reader went away; that is no failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="discover")
def cli() -> None:
    """Find circuits in language models by exact path patching (ACDC)."""


for _module in (
    searching, queueing, evaluating, comparing, patching, stored, keeping, showing, listing
):  # fmt: skip
    for _command in _module.COMMANDS:
        cli.add_command(_command)
