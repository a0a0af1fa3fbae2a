"""The official client and this package hear the same from the simulator, batch by batch, field by field."""

import datetime as dt

import pandas as pd
from safetykit import Safetykit

import safetykit_analytics as ska
from safetykit_analytics.schema import COUNT_COLUMNS, TERMINAL_STATUSES
from safetykit_analytics.simulator import make_fleet, serve

FLEET = make_fleet(seed=3, batches=120, weeks=1)
KEY = "simulated-key"


def test_our_observation_is_what_the_official_client_reads():
    at = FLEET.start + dt.timedelta(days=5)
    ids = list(FLEET.batch_ids[: FLEET.created_by(at)])
    with (
        serve(FLEET, clock=lambda: at, api_key=KEY) as url,
        Safetykit(api_key=KEY, base_url=url, max_retries=0) as client,
    ):
        theirs = [client.batches.get(batch_id) for batch_id in ids]
        result = ska.fetch_batches(ids, api_key=KEY, base_url=url, clock="server")
        one = ska.get_batch(ids[0], api_key=KEY, base_url=url)
    ours = result.frame
    assert result.failures.empty
    assert ours["batch_id"].tolist() == [answer.batch_id for answer in theirs] == ids
    assert ours["batch_status"].tolist() == [answer.batch_status for answer in theirs]
    for name in COUNT_COLUMNS:
        assert ours[name].tolist() == [getattr(answer, name) for answer in theirs]
    for name in ("policy_id", "policy_version"):
        labels = [None if pd.isna(label) else label for label in ours[name]]
        assert labels == [getattr(answer, name) or None for answer in theirs]
        assert None in labels
    assert ours["has_download"].tolist() == [bool(answer.download_url) for answer in theirs]
    assert ours["is_terminal"].tolist() == [answer.batch_status in TERMINAL_STATUSES for answer in theirs]
    assert set(ours["observed_at"]) == {pd.Timestamp(at)}
    assert ours["created_at"].astype("int64").tolist() == [
        int(created) * 1000 for created in FLEET.created_ms[: len(ids)]
    ]
    # One batch alone: all eleven fields, the two secret ones included.
    alone = one.model_dump()
    for name, value in theirs[0].to_dict().items():
        shown = alone[name].get_secret_value() if name.endswith("_url") and alone[name] else alone[name]
        assert shown == value
    assert len(alone) == 11
