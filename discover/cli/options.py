"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from discover.errors import InputError
from discover.methods import METHODS
from discover.order import ORDERS
from discover.sizes import parse_size
from discover.spec import ABLATIONS, DTYPES, ENGINES, MEANS, METRICS, RunSpec

if TYPE_CHECKING:
    from discover.graph import Edge
    from discover.session import How
    from discover.store import Store

Command = Callable[..., Any]


def choice(names: Any) -> click.Choice[str]:
    """One of some names."""
    return click.Choice(list(names))


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order that the help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


db_option = click.option(
    "--db",
    metavar="URL",
    help="Database: SQLAlchemy URL or SQLite file (default: DISCOVER_DB, else discover.db).",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print exactly one JSON object on stdout."
)

model_option = click.option(
    "--model",
    required=True,
    help="A name of `discover models`, a directory, a .gguf file or a hub name.",
)

prompts_file_option = click.option(
    "--prompts-file",
    type=click.Path(path_type=Path),
    help="Your own prompts: .jsonl, .csv or .tsv.",
)

made_options = with_options(
    click.option(
        "--seed", type=int, default=0, show_default=True, help="Seed of the task's prompts."
    ),
    click.option("--corruption", help="The task's corruption, e.g. abc or flipped for ioi."),
    click.option(
        "--task-option", multiple=True, metavar="KEY=VALUE", help="Another option of the task."
    ),
    click.option("--bos", is_flag=True, help="Put a BOS token in front where there is none."),
    click.option(
        "--dtype",
        type=choice(DTYPES),
        default="float32",
        show_default=True,
        help="bfloat16 is for speed on a GPU; what comes out may differ.",
    ),
)

prompt_options = with_options(
    model_option,
    click.option("--task", help="A name of `discover tasks`."),
    prompts_file_option,
    click.option(
        "--prompts",
        type=int,
        help="How many prompt pairs (default: the task's usual number, or all of the file).",
    ),
    made_options,
)

behaviour_options = with_options(
    prompt_options,
    click.option("--ablation", type=choice(ABLATIONS), default="resample", show_default=True),
    click.option(
        "--mean-by",
        type=choice(MEANS),
        help="Positions that a mean ablation averages together: counted from the start (default), "
        "the task's roles, or all.",
    ),
    click.option(
        "--reference",
        metavar="N|FILE",
        help="Mean over the corrupted sides of N further prompts of the task, or of a prompts "
        "file (default: the run's own prompts).",
    ),
)

order_option = click.option(
    "--order",
    default="canonical",
    show_default=True,
    help=f"Order of the edges: {', '.join(ORDERS)}. Within a receiver, and of q, k and v within a "
    "layer; greedy search depends on it.",
)

metric_option = click.option("--metric", type=choice(METRICS), default="kl", show_default=True)

engine_option = click.option(
    "--engine", type=choice(ENGINES), default=ENGINES[0], show_default=True
)

device_option = click.option(
    "--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1."
)

threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads (default: 1 for a small model)."
)

memory_option = click.option(
    "--memory",
    metavar="SIZE",
    help="Work in so much memory, beside the model's weights, e.g. 4GiB (default: half of what "
    "is free, or the least that a search is sure to fit in).",
)

block_option = click.option(
    "--block",
    type=click.IntRange(min=1),
    help="Speculate on at most so many decisions at once (default 64; changes only the cost).",
)

compute_options = with_options(device_option, threads_option, memory_option, block_option)

draft_option = click.option(
    "--draft",
    metavar="RUN|METHOD",
    help="Guess the decisions of an earlier run, or those that eap or eap-ig scores make "
    "(changes the cost, not the circuit).",
)


def make_spec(tau: float, given: dict[str, Any]) -> RunSpec:
    """The spec that the values of `behaviour_options` and the metric describe."""
    task, prompts_file = given["task"], given["prompts_file"]
    corruption, task_option = given["corruption"], given["task_option"]
    if task is None and prompts_file is None:
        raise InputError("give --task (see `discover tasks`) or --prompts-file")
    if prompts_file is not None and (corruption or task_option):
        raise InputError("--corruption and --task-option belong to tasks, not to a prompts file")
    return RunSpec(
        model=_model_name(given["model"]),
        task=task,
        prompts_file=None if prompts_file is None else str(prompts_file.resolve()),
        prompts=given["prompts"],
        seed=given["seed"],
        task_options=_task_options(task, corruption, task_option),
        bos=given["bos"],
        metric=given["metric"],
        ablation=given["ablation"],
        mean_by=given.get("mean_by") or MEANS[0],
        reference=_reference(given.get("reference")),
        order=given.get("order", "canonical"),
        tau=tau,
        dtype=given["dtype"],
    )


def _reference(text: str | None) -> int | str | None:
    """A number of prompts, or the path of a file."""
    if text is None or re.fullmatch(r"-?\d+", text, re.ASCII):
        return None if text is None else int(text)
    return str(Path(text).expanduser().resolve())


def make_how(store: Store, given: dict[str, Any]) -> How:
    """How to compute, from the values of `compute_options` and of `draft_option` if it is there.

    An earlier run's decisions are read from the store.
    """
    from discover.session import How

    memory, draft = given["memory"], given.get("draft")
    guesses: Collection[Edge] | str | None = draft
    if draft is not None and draft not in METHODS:
        record = store.run(draft)
        guesses = {d.edge for d in store.decisions(record.id) if not d.removed}
    return How(
        device=given["device"],
        threads=given["threads"],
        block=given["block"],
        draft=guesses,
        memory=None if memory is None else parse_size(memory),
    )


def open_store(db: str | None, create: bool = True) -> Store:
    """The store that --db names."""
    from discover.store import Store

    return Store.open(db, create=create)


def check_writable(output: Path) -> None:
    """Refuse a file that cannot be written (`-` is stdout), before time is spent on computing."""
    if str(output) == "-":
        return
    folder = output.parent
    if not folder.is_dir():
        raise InputError(f"cannot write {output}: there is no directory {folder}; make it")
    there = output if output.exists() else folder
    if output.is_dir() or not os.access(there, os.W_OK):
        reason = "it is a directory" if output.is_dir() else "permission denied"
        raise InputError(f"cannot write {output}: {reason}")


def write(output: Path, content: bytes) -> None:
    """Write a file, or stdout for `-`."""
    if str(output) == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from error
    click.echo(f"wrote {output}", err=True)


def _model_name(name: str) -> str:
    """Paths are stored absolute, so that a run can be resumed from anywhere."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() and (path.is_dir() or path.suffix) else name


def _task_options(
    task: str | None, corruption: str | None, pairs: tuple[str, ...]
) -> dict[str, Any]:
    from discover.tasks import check_options, get_task

    options: dict[str, Any] = {} if corruption is None else {"corruption": corruption}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--task-option {pair!r} must look like KEY=VALUE")
        options[key] = value
    return {} if task is None else check_options(get_task(task), options)
