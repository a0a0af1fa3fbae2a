"""Observations of a few batches, written as a person would tell them."""

import pandas as pd

NOW = pd.Timestamp("2026-03-20T12:00Z")


def at(hours_ago):
    return NOW - pd.Timedelta(hours=hours_ago)


def batch(name, *seen, **labels):
    """Observations of one batch: (hours ago, success, error, and a status but PENDING) each."""
    return batches((name, *seen), **labels)


def batches(*told, **labels):
    """Observations of several batches of one policy and version, told as one is."""
    rows = [row for name, *seen in told for row in _rows(name, *seen, **labels)]
    return pd.DataFrame(rows).astype({"policy_id": "string", "policy_version": "string"})


def _rows(name, *seen, policy="spam", version="v1", created=None, size=1000):
    rows = []
    for hours, success, error, *status in seen:
        state = status[0] if status else "PENDING"
        rows.append(
            {
                "batch_id": name,
                "observed_at": at(hours),
                "created_at": at(seen[0][0] + 1 if created is None else created),
                "batch_status": state,
                "batch_count": size,
                "success_count": success,
                "error_count": error,
                "cancelled_count": 0,
                "pending_count": size - success - error,
                "policy_id": policy,
                "policy_version": version,
                "has_download": False,
                "is_terminal": state != "PENDING",
            }
        )
    return rows


def frame(*batches):
    return pd.concat(batches, ignore_index=True)


def ended(name, errors, hours_ago, **labels):
    """A batch of 1,000 that ended in one go."""
    return all_ended((name, errors, hours_ago), **labels)


def all_ended(*told, **labels):
    """Batches of 1,000 that each ended in one go: name, errors, hours ago."""
    return batches(
        *((name, (hours, 1000 - errors, errors, "SUCCESS")) for name, errors, hours in told), **labels
    )
