"""Every error that `discover` raises on purpose.

::

    DiscoverError                the common base: one clear line for a person
    ├── InputError               the input was wrong            (exit code 2)
    │   ├── ModelError           a model that cannot be had or is not supported
    │   ├── TaskError            an unknown task, or an option that it lacks
    │   ├── PromptError          a prompt, an answer or a prompts file
    │   ├── GraphError           an unknown node or edge name, an impossible shape
    │   ├── PatchError           a node, position or combination that cannot be patched
    │   ├── SpecError            a run's settings (tau, metric, ablation, ...)
    │   ├── StoreError           the database: wrong schema, no such run, ...
    │   │   ├── StoreUnavailableError   unreachable, locked or full: may work later
    │   │   ├── NotFoundError           no such run, sweep, evaluation or file
    │   │   └── StateError              not possible with a run that is as this one is
    │   └── MismatchError        the model, prompts or rows at hand are not the stored run's
    └── RunError                 the input was fine, the run failed  (exit code 3)
        ├── SelfCheckError       the model and the graph do not agree
        ├── FencedError          another process has taken the run over
        └── StoppedError         the run was asked to stop, and can be gone on with

The command line prints the message of a `DiscoverError` as it is and nothing else; any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations


class DiscoverError(Exception):
    """Base of all errors raised on purpose; the message says what, where and what to do."""

    exit_code = 3


class InputError(DiscoverError):
    """The user's input was wrong."""

    exit_code = 2


class ModelError(InputError):
    """A model is unknown, missing, broken or not supported."""


class TaskError(InputError):
    """A task is unknown, or got an option that it does not have."""


class PromptError(InputError):
    """A prompt, an answer or a prompts file is unusable."""


class GraphError(InputError):
    """A node or edge name is unknown, or a graph's shape is impossible."""


class PatchError(InputError):
    """A node, position or combination of nodes cannot be patched."""


class SpecError(InputError):
    """A run's settings are unusable."""


class StoreError(InputError):
    """The database cannot be used, or has no such run."""


class StoreUnavailableError(StoreError):
    """The database cannot be reached, is locked or has no space: the same may work later."""


class NotFoundError(StoreError):
    """The database has no such run, sweep, evaluation or file, or several that it could be."""


class StateError(StoreError):
    """A run is queued, under way or ended, and for this it must not be."""


class MismatchError(InputError):
    """The model, prompts or rows at hand are not those of the stored run."""


class RunError(DiscoverError):
    """The input was fine but the run failed."""


class SelfCheckError(RunError):
    """The model does not compute what the graph says it computes."""


class FencedError(RunError):
    """Another process has taken the run over; this one may write nothing more."""


class StoppedError(RunError):
    """The run was asked to stop; all that was decided is stored."""
