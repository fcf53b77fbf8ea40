"""From rows (JSON objects, a table's rows, a data set's) to prompt pairs; nothing is guessed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from discover.errors import PromptError
from discover.prompts.encoding import Tokenizer, encode_prompt, from_end, make_pair, single_token
from discover.prompts.pairs import PromptPair, PromptPairs

FIELDS = (
    "clean",
    "corrupted",
    "correct",
    "incorrect",
    "answer_positions",
    "roles",
    "clean_tokens",
    "corrupted_tokens",
    "correct_tokens",
    "incorrect_tokens",
)
"""What a row may hold; `clean` and `corrupted` it must."""

ANSWERS = ("correct", "incorrect")

_SHOWN = 20


def from_rows(
    rows: Iterable[Mapping[str, Any]], tokenizer: Tokenizer, bos: bool = False
) -> PromptPairs:
    """Prompt pairs from any iterable of mappings, a Hugging Face `datasets.Dataset` among them.

    A row holds what a line of a prompts file holds (see `read_jsonl`); beyond that a single answer
    or position needs no list, and a value of None counts as not given, since data sets put it where
    a row has nothing. Arrays and tuples count as lists. Every malformed row is reported by its
    index, which counts from 0.

    Raises:
        PromptError: there are no rows, a column is unknown or missing, or rows are malformed.
    """
    _check_columns(rows)
    pairs: list[PromptPair] = []
    problems: list[str] = []
    for index, row in enumerate(rows):
        try:
            pairs.append(pair_of(_plain_row(row), tokenizer, bos))
        except PromptError as error:
            problems.append(f"row {index}: {error}")
    refuse("the data set", "row", problems)
    if not pairs:
        raise PromptError("the data set has no rows; give at least one prompt pair")
    return PromptPairs(pairs)


def _check_columns(rows: object) -> None:
    """Refuse at once what would be wrong with every row."""
    columns = getattr(rows, "column_names", None)
    if isinstance(columns, Mapping):
        raise PromptError(
            f"this is a dictionary of data sets ({', '.join(map(str, columns))}); give one of them"
        )
    if isinstance(rows, Mapping | str | bytes):
        raise PromptError(
            f"prompts must be an iterable of mappings, one a pair, not a {type(rows).__name__}; "
            "of a file use read_prompts"
        )
    # A streamed data set may not know its columns: its rows are looked at one by one.
    if columns is not None:
        check_columns(list(columns))


def check_columns(columns: list[str]) -> None:
    """Raise PromptError if a table's columns are unknown, named twice, or lack a needed one."""
    if unknown := [name for name in columns if name not in FIELDS]:
        meant = [f"{n!r} (without the spaces)" for n in unknown if str(n).strip() in FIELDS]
        hint = f"; did you mean {', '.join(meant)}?" if meant else ""
        raise PromptError(
            f"unknown column(s) {', '.join(map(repr, unknown))}; known: {', '.join(FIELDS)}{hint}"
        )
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise PromptError(f"column(s) {', '.join(map(repr, twice))} given more than once")
    if missing := [name for name in ("clean", "corrupted") if name not in columns]:
        raise PromptError(f"there is no column {' and none '.join(map(repr, missing))}")


def _plain_row(row: object) -> dict[str, Any]:
    """A data set's row as a line of JSON would give it."""
    if not isinstance(row, Mapping):
        raise PromptError(
            f"must be a mapping of column names to values, not {type(row).__name__} (of a "
            "DataFrame give frame.to_dict('records'))"
        )
    plain = {key: _plain(value) for key, value in row.items() if value is not None}
    for key in ANSWERS:
        if isinstance(plain.get(key), str):
            plain[key] = [plain[key]]
    if is_int(plain.get("answer_positions")):
        plain["answer_positions"] = [plain["answer_positions"]]
    if isinstance(plain.get("roles"), dict):
        # A column of dictionaries has every key in every row.
        plain["roles"] = {k: v for k, v in plain["roles"].items() if v is not None}
    return plain


def _plain(value: Any) -> Any:
    """Arrays and tuples as lists, numbers of other libraries as Python's own."""
    if hasattr(value, "tolist"):  # numpy's and torch's arrays and numbers
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return value


def parse_json(text: str) -> Any:
    """A JSON value; a key given twice is refused, where Python would take the later one.

    Raises:
        PromptError: the text is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"not JSON ({error})") from error


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({repr(key) for key in keys if keys.count(key) > 1})
        raise PromptError(f"key(s) {', '.join(twice)} given more than once")
    return found


def refuse(where: str, kind: str, problems: list[str]) -> None:
    """Raise one PromptError that lists the problems, if there are any."""
    if problems:
        shown = problems[:_SHOWN]
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise PromptError(
            f"{where} has {len(problems)} malformed {kind}(s):\n  " + "\n  ".join(shown + more)
        )


def pair_of(data: object, tokenizer: Tokenizer, bos: bool = False) -> PromptPair:
    """The pair that one JSON object says; see `read_jsonl` for its keys.

    Raises:
        PromptError: it is no object, or a value is missing, unknown or of the wrong kind.
    """
    found, positions, roles = check_row(data)
    if any(key.endswith("_tokens") for key in found):
        return _from_tokens(found, tokenizer, bos, positions, roles)
    return make_pair(
        tokenizer,
        found["clean"],
        found["corrupted"],
        _strings(found, "correct"),
        _strings(found, "incorrect"),
        answer_positions=positions,
        roles=roles,
        bos=bos,
    )


def check_row(data: object) -> tuple[dict[str, Any], list[int], dict[str, int]]:
    """A pair's JSON object, its answer positions and roles, as far as no tokenizer is needed.

    Raises:
        PromptError: it is no object, or a value is missing, unknown or of the wrong kind.
    """
    if not isinstance(data, dict):
        raise PromptError(f"must be a JSON object, not {type(data).__name__}")
    if unknown := sorted(map(repr, set(data) - set(FIELDS))):
        raise PromptError(
            f"unknown key(s) {', '.join(unknown)}; known: {', '.join(sorted(FIELDS))}"
        )
    for key in ("clean", "corrupted"):
        if not isinstance(data.get(key), str):
            raise PromptError(f"{key!r} must be a string")
    positions = _ints(data, "answer_positions")
    roles = {} if data.get("roles") is None else data["roles"]
    if not isinstance(roles, dict) or not all(
        isinstance(name, str) and is_int(p) for name, p in roles.items()
    ):
        raise PromptError("'roles' must map names to positions")
    _check_text([data["clean"], data["corrupted"], *roles])
    for key in ("correct", "incorrect"):
        _strings(data, key)
    return data, positions, roles


def _from_tokens(
    data: dict[str, Any],
    tokenizer: Tokenizer,
    bos: bool,
    positions: list[int],
    roles: Mapping[str, int],
) -> PromptPair:
    """A line with tokens: they are exact, and must be what the texts give if texts are there."""
    tokens = {}
    for key in ("clean", "corrupted"):
        ids = _ints(data, f"{key}_tokens")
        if not ids:
            raise PromptError(f"'{key}_tokens' is missing or empty")
        if data[key] and encode_prompt(tokenizer, data[key], bos) != ids:
            raise PromptError(
                f"'{key}' and '{key}_tokens' disagree for the tokenizer of {tokenizer.name}"
                f"{' with' if bos else ' without'} --bos; drop one of the two"
            )
        tokens[key] = tuple(ids)
    answers = {}
    for key in ("correct", "incorrect"):
        ids = _ints(data, f"{key}_tokens")
        named = [single_token(tokenizer, text) for text in _strings(data, key)]
        if ids and named and ids != named:
            raise PromptError(
                f"{key!r} and '{key}_tokens' disagree for the tokenizer of {tokenizer.name}; "
                "drop one of the two"
            )
        answers[key] = tuple(ids or named)
    return PromptPair(
        clean=tokens["clean"],
        corrupted=tokens["corrupted"],
        correct=answers["correct"],
        incorrect=answers["incorrect"],
        answer_positions=from_end(positions, len(tokens["clean"])),
        roles=dict(roles),
        clean_text=data["clean"],
        corrupted_text=data["corrupted"],
    )


def is_int(value: object) -> bool:
    """Whether a value is a whole number: True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _ints(data: Mapping[str, Any], key: str) -> list[int]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(is_int(v) for v in value):
        raise PromptError(f"{key!r} must be a list of integers")
    return value


def _strings(data: Mapping[str, Any], key: str) -> list[str]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise PromptError(f"{key!r} must be a list of non-empty strings")
    _check_text(value)
    return value


def _check_text(texts: Iterable[str]) -> None:
    """Raise PromptError at half a surrogate pair: JSON can spell it, UTF-8 cannot hold it."""
    for text in texts:
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise PromptError(f"{text!r} holds half of a character (a lone surrogate); mend it")
