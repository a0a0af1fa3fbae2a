"""Everything that this library raises, and the warnings that it gives.

::

    SafetyKitAnalyticsError
    ├── MissingApiKey (ValueError)       no key was given and none is in the environment
    ├── InvalidEnvironment (OSError)     a certificate, key-log file or proxy of the environment: .variable
    ├── Unauthorized                     the API refused the key; .result has what arrived before
    ├── FetchFailed                      one batch could not be fetched: .kind, .status_code, .batch_id
    ├── FetchFailures                    raise_for_failures() found some: .result
    ├── InvalidFrame (ValueError)        a DataFrame is not a frame of observations
    ├── NotAStore (OSError)              a folder holds something else than snapshots
    ├── DamagedFile (OSError)            a snapshot file cannot be read or fails its checksums: .path
    ├── StoreFailed (OSError)            the disk or object store refused: full, read-only, broken: .errno
    └── UnknownName (ValueError)         a policy, version, column or zone that is not there: .known

    Warning
    ├── UnknownStatusWarning             the API reported a batch status that is not documented
    ├── NewerSchemaWarning               a snapshot file was written by a later release
    └── DamagedFileWarning               a damaged snapshot file was left out, as was asked for
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable


class SafetyKitAnalyticsError(Exception):
    """Base of every error that this library raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process pools as pickles; the default would call __init__ without its keywords.
        return (_rebuilt, (type(self), self.args, vars(self)))


def _rebuilt(
    error: type[SafetyKitAnalyticsError], args: tuple[object, ...], attributes: dict[str, object]
) -> SafetyKitAnalyticsError:
    again = error.__new__(error, *args)
    again.args = args
    vars(again).update(attributes)
    return again


class MissingApiKey(SafetyKitAnalyticsError, ValueError):  # noqa: N818 -- a public name reads as what happened
    """No API key was given or found in the environment, or it has characters that a header cannot hold."""


class InvalidEnvironment(SafetyKitAnalyticsError, OSError):  # noqa: N818
    """An environment variable names a missing file or an unusable proxy.

    .. versionadded:: 0.2.0

    Attributes
    ----------
    variable : str
        Such as ``SSL_CERT_FILE``, ``SSLKEYLOGFILE`` or ``HTTPS_PROXY``.
    """

    def __init__(self, message: str, *, variable: str) -> None:
        super().__init__(message)
        self.variable = variable


class Unauthorized(SafetyKitAnalyticsError):  # noqa: N818
    """The API refused the key for the whole run.

    Attributes
    ----------
    status_code : int
        401.
    result : FetchResult or None
        What had arrived before; ids that were never sent are ``not_attempted``. None from ``get_batch``.
    """

    def __init__(self, message: str, *, status_code: int, result: Any = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.result = result


class FetchFailed(SafetyKitAnalyticsError):  # noqa: N818
    """One batch could not be fetched.

    Attributes
    ----------
    batch_id : str
    kind : str
        One of the kinds of ``FetchResult.failures``.
    status_code : int or None
        Of the last answer, if there was one.
    """

    def __init__(self, message: str, *, batch_id: str, kind: str, status_code: int | None = None) -> None:
        super().__init__(message)
        self.batch_id = batch_id
        self.kind = kind
        self.status_code = status_code


class FetchFailures(SafetyKitAnalyticsError):  # noqa: N818
    """Some batches of a run could not be fetched.

    Attributes
    ----------
    result : FetchResult
        The whole run; ``result.failures`` lists the failed ids, ``result.retry()`` asks for them again.
    """

    def __init__(self, message: str, *, result: Any) -> None:
        super().__init__(message)
        self.result = result


class InvalidFrame(SafetyKitAnalyticsError, ValueError):  # noqa: N818
    """A DataFrame does not hold observations: the message names the column and the row."""


class NotAStore(SafetyKitAnalyticsError, OSError):  # noqa: N818
    """A folder holds something else than snapshots."""


class DamagedFile(SafetyKitAnalyticsError, OSError):  # noqa: N818
    """A snapshot file cannot be read, or its content fails its checksums.

    Attributes
    ----------
    path : str
    """

    def __init__(self, message: str, *, path: str | os.PathLike[str]) -> None:
        super().__init__(message)
        self.path = str(path)


class StoreFailed(SafetyKitAnalyticsError, OSError):  # noqa: N818
    """The disk or object store refused: it is full, read-only, unreachable or broken.

    An append that raises it has written nothing that counts; repeat it once the cause is gone. As with every
    OSError, ``.errno`` is what the operating system said, such as ``errno.ENOSPC``, and ``.filename`` where.
    """

    def __reduce__(self) -> tuple[object, ...]:
        # The name of the file is not among the args of an OSError.
        given = (self.errno, self.strerror, self.filename) if self.errno else self.args
        return (type(self), given)


class StoreChanged(StoreFailed):
    """The store was compacted while it was read. Whoever listed it lists it again and starts anew."""


class UnknownName(SafetyKitAnalyticsError, ValueError):  # noqa: N818
    """A policy, version, column or time zone that is not there.

    Parameters
    ----------
    what : str
        What the name should have been, for the message: "policy", "column", "time zone".
    name : object
        The name as it was given.
    known : iterable of str
        What would have been accepted. The closest are shown first; of many, if some are close, those alone.
    where : str
        Where the name was looked for, for the message, if that is not plain: "policy 'spam'".

    Attributes
    ----------
    name : str
    known : tuple of str
    """

    def __init__(self, what: str, name: object, known: Iterable[str], *, where: str = "") -> None:
        self.name = str(name)
        self.known = tuple(known)
        sought = f"no {what} {self.name!r}" + (f" in {where}" if where else "")
        super().__init__(_unknown_name_message(sought, self.name, self.known))


_MOST_SHOWN = 12


def _unknown_name_message(sought: str, name: str, known: tuple[str, ...]) -> str:
    if not known:
        return f"{sought}: there is none at all in this data"
    # Similar names first: a typing error among hundreds of names is then seen at once.
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.6)
    others = [other for other in known if other not in close]
    # The first of hundreds in the alphabet would not help.
    shown = close if close and len(known) > _MOST_SHOWN else [*close, *others][:_MOST_SHOWN]
    more = len(known) - len(shown)
    return f"{sought}; known: {', '.join(map(repr, shown))}" + (f" and {more} more" if more else "")


class UnknownStatusWarning(UserWarning):
    """The API reported a batch status that is not documented; it is kept as it came and not terminal."""


class NewerSchemaWarning(UserWarning):
    """A snapshot file was written by a later release; the columns known here were read."""


class DamagedFileWarning(UserWarning):
    """A damaged snapshot file was left out because reading around damage was asked for."""
