"""Prompts files: JSON lines, and tables with commas or tabs; every malformed line is reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from discover.errors import PromptError
from discover.prompts.encoding import Tokenizer
from discover.prompts.pairs import PromptPair, PromptPairs
from discover.prompts.rows import check_columns, check_row, pair_of, parse_json, refuse
from discover.prompts.tables import DELIMITERS, NAMES, records, row_of, wrong_delimiter


def read_prompts(path: str | Path, tokenizer: Tokenizer, bos: bool = False) -> PromptPairs:
    """Read prompt pairs from a file: `.csv` and `.tsv` are tables, any other name is JSONL.

    Raises:
        PromptError: the file cannot be read, is empty, or has malformed lines.
    """
    if Path(path).suffix.lower() in DELIMITERS:
        return read_table(path, tokenizer, bos)
    return read_jsonl(path, tokenizer, bos)


def check_text(name: str | Path, text: str) -> None:
    """Refuse the text of a prompts file as far as no tokenizer is needed for that.

    Raises:
        PromptError: it is empty, or has malformed lines; the first few are named.
    """
    delimiter = DELIMITERS.get(Path(name).suffix.lower())
    text = text.removeprefix("\ufeff")
    problems: list[str] = []
    columns: list[str] | None = None
    number = pairs = 0
    lines = _json_lines(text) if delimiter is None else records(text, delimiter)
    for number, cells in lines:
        try:
            if isinstance(cells, PromptError):
                raise cells
            if isinstance(cells, str):
                check_row(parse_json(cells))
            elif columns is None:
                columns = _columns(cells)
                continue
            else:
                check_row(row_of(columns, cells))
            pairs += 1
        except PromptError as error:
            problems.append(f"line {number}: {error}")
            if delimiter is not None and columns is None:
                break
    refuse(f"prompts file {name}", "line", problems)
    if not pairs:
        raise PromptError(f"there are no prompts in the file {name}")


def _json_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, by their numbers."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def clean_tokens(jsonl: str) -> set[tuple[int, ...]]:
    """The clean tokens of prompts as they are stored, one JSON object a line."""
    lines = (json.loads(line) for line in jsonl.split("\n") if line.strip())
    return {tuple(line["clean_tokens"]) for line in lines}


def read_jsonl(path: str | Path, tokenizer: Tokenizer, bos: bool = False) -> PromptPairs:
    """Read prompt pairs from a JSONL file; every malformed line is reported, not only the first.

    A line is `{"clean": str, "corrupted": str, "correct": [str], "incorrect": [str]}` with an
    optional `"answer_positions": [int]` (default: the last token) and `"roles": {name: position}`.
    What `export --format prompts` writes (`clean_tokens` and so on) is read back exactly.

    Raises:
        PromptError: the file cannot be read, is empty, or has malformed lines.
    """
    path = Path(path)
    text = _text(path)
    pairs: list[PromptPair] = []
    problems: list[str] = []
    for number, line in _json_lines(text):
        try:
            pairs.append(pair_of(parse_json(line), tokenizer, bos))
        except PromptError as error:
            problems.append(f"line {number}: {error}")
    as_what = "" if path.suffix == ".jsonl" else ", read as JSON lines,"
    refuse(f"prompts file {path}{as_what}", "line", problems)
    if not pairs:
        raise PromptError(
            f"prompts file {path} is empty; write one JSON object a line with the keys "
            "clean, corrupted, correct, incorrect"
        )
    return PromptPairs(pairs)


def read_table(
    path: str | Path, tokenizer: Tokenizer, bos: bool = False, delimiter: str | None = None
) -> PromptPairs:
    """Read prompt pairs from a table: a header, then one pair a record, by RFC 4180.

    Columns, in any order: clean, corrupted; optional: correct, incorrect, answer_positions, roles
    (and the `..._tokens` of `PromptPair.record`). An answer's cell is one answer as it stands,
    leading space included, unless it begins with `[`: then it is a JSON list of answers.
    `answer_positions` is a whole number or a JSON list, `roles` a JSON object. Empty cells are
    values not given. `delimiter` None: by the suffix, tabs for `.tsv` and commas for all others.
    Every malformed record is reported by the number of its first line.

    Raises:
        PromptError: the file cannot be read, is empty, lacks a column, or has malformed records.
    """
    path = Path(path)
    delimiter = delimiter or DELIMITERS.get(path.suffix.lower(), ",")
    text = _text(path)
    found = records(text, delimiter)
    number, header = next(found, (0, []))
    if not number:
        raise PromptError(
            f"prompts file {path} is empty; its first line must name the columns, such as "
            f"{delimiter.join(('clean', 'corrupted', 'correct', 'incorrect'))!r}"
        )
    try:
        columns = _columns(header)
    except PromptError as error:
        raise PromptError(
            f"prompts file {path}, line {number}: {_blame(text, delimiter) or error}"
        ) from error
    pairs: list[PromptPair] = []
    problems: list[str] = []
    for number, cells in found:
        try:
            if isinstance(cells, PromptError):
                raise cells
            pairs.append(pair_of(row_of(columns, cells), tokenizer, bos))
        except PromptError as error:
            problems.append(f"line {number}: {error}")
    refuse(f"prompts file {path}", "line", problems)
    if not pairs:
        raise PromptError(f"prompts file {path} has a header and no prompts under it")
    return PromptPairs(pairs)


def _columns(header: list[str] | PromptError) -> list[str]:
    if isinstance(header, PromptError):
        raise header
    check_columns(header)
    return header


def _blame(text: str, delimiter: str) -> str | None:
    """The likelier reason why a header names no columns that are known."""
    other = wrong_delimiter(text, delimiter)
    if other is None:
        return None
    suffixes = {mark: suffix for suffix, mark in DELIMITERS.items()}
    rename = f", or name it {suffixes[other]}" if other in suffixes else ""
    return (
        f"the columns are parted by {NAMES[other]}, where {NAMES.get(delimiter, repr(delimiter))} "
        f"are expected; save the file with those{rename}"
    )


def _text(path: Path) -> str:
    try:
        # "-sig": editors on Windows begin a file with a byte-order mark.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"cannot read prompts file {path}: {error}; save it as UTF-8 text (.jsonl, .csv, .tsv)"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise PromptError(f"cannot read prompts file {path}: {reason}") from error
