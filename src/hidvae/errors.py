"""The errors a user can meet.

::

    HidvaeError                  anything below; its text is one line a user can act on
    ├── ConfigError              an unknown key, a value out of range
    ├── DataError                a table, text or embedding that breaks its contract
    ├── ShapeError               arrays that disagree about a dimension
    ├── NotTrainedError          a stage that has not been run yet
    ├── TrainingError            a training that diverged
    ├── SearchTimeout            a search that was not done by its deadline
    ├── ServerError              a language-model server that gave no usable answer
    ├── MissingExtraError        an optional package that is not installed
    └── ArtifactError            a stage folder that is truncated or of another format
        └── FingerprintMismatch  a stage folder made from other inputs

Every message says what was expected, what was found, and what to do.
"""

from __future__ import annotations


class HidvaeError(Exception):
    """Base of every error that is the user's to mend; the CLI prints it as one line."""

    def __str__(self) -> str:
        """One line, also where it repeats a value of the user's that has several."""
        return " ".join(super().__str__().splitlines())


class ConfigError(HidvaeError):
    """A configuration key is unknown or its value is out of range."""


class DataError(HidvaeError):
    """A table, a text or an embedding breaks the data contract."""


class ShapeError(HidvaeError):
    """Arrays disagree about a dimension."""


class NotTrainedError(HidvaeError):
    """A stage is needed that has not been run."""


class TrainingError(HidvaeError):
    """A training diverged."""


class SearchTimeout(HidvaeError):
    """A search was not done by its deadline and was given up."""


class ServerError(HidvaeError):
    """A server gave no usable answer."""


class MissingExtraError(HidvaeError):
    """An optional dependency is not installed."""


class ArtifactError(HidvaeError):
    """A stage folder is missing files, truncated, or of another format version."""


class FingerprintMismatch(ArtifactError):
    """A stage folder was made from other inputs than the ones given."""
