"""Files that are kept in the database: how a run that names one gets at it on any machine.

A spec may call a prompts file `sha256:HASH/NAME` in place of a path. `fetch` puts such files from
the store into the cache directory, under their hash; `path_of` finds them there. So what reads
prompts knows no store, and what is in the cache is what the spec means or is refused.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from discover.errors import PromptError
from discover.loading import cache_directory
from discover.spec import RunSpec
from discover.store import Store
from discover.store.sweeps import STORED_FILE


def names_in(spec: RunSpec) -> list[str]:
    """The stored files that a spec names."""
    named = (spec.prompts_file, spec.reference)
    return [name for name in named if isinstance(name, str) and STORED_FILE.fullmatch(name)]


def fetch(store: Store, spec: RunSpec) -> None:
    """Put the stored files that a spec names where `path_of` finds them.

    Raises:
        StoreError: one is not in the store.
        PromptError: one is not what its name says, or cannot be written.
    """
    for name in names_in(spec):
        try:
            path_of(name)
        except PromptError:
            _put(name, store.file(name).encode())


def path_of(name: str) -> Path:
    """The file of that name: a stored one where `fetch` put it, any other by its path.

    Raises:
        PromptError: a stored file was not fetched, or is not what its name says any more.
    """
    found = STORED_FILE.fullmatch(name)
    if found is None:
        return Path(name)
    path = cache_directory() / "files" / found[1] / found[2]
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PromptError(
            f"{name} is a file in a database, and was not fetched from there to {path} "
            f"({error.strerror})"
        ) from error
    if digest != found[1]:
        raise PromptError(f"{path} was changed: its SHA-256 is not what it was; delete it")
    return path


def _put(name: str, content: bytes) -> None:
    """Write a stored file whole or not at all; several workers may be at it at once."""
    found = STORED_FILE.fullmatch(name)
    assert found is not None  # `fetch` asks for stored files only
    if hashlib.sha256(content).hexdigest() != found[1]:
        raise PromptError(f"the stored file {name} is not what its name says; store it anew")
    path = cache_directory() / "files" / found[1] / found[2]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except OSError as error:
        raise PromptError(f"cannot keep {name} at {path}: {error.strerror}") from error
