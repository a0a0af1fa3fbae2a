"""Draw the pictures of docs/gallery.md into docs/images: `python docs/make_gallery.py`.

The data is a simulated fleet of four weeks, polled every hour, with one weekend on which nobody polled.
"""

import datetime as dt
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import safetykit_analytics as ska
from safetykit_analytics.simulator import fleet as simulated

IMAGES = Path(__file__).parent / "images"
POLL_EVERY = dt.timedelta(hours=1)
NOBODY_POLLS = (dt.datetime(2025, 9, 13, 3, tzinfo=dt.UTC), dt.datetime(2025, 9, 14, 20, tzinfo=dt.UTC))
ZONE = "Europe/Berlin"


def observe(fleet: simulated.Fleet) -> pd.DataFrame:
    """Poll a fleet until its last day but one is half over: each batch until it is settled."""
    polls = []
    at, last = fleet.start, fleet.end - dt.timedelta(hours=30)
    settled = np.zeros(len(fleet.batch_ids), dtype=bool)
    while at < last:
        at += POLL_EVERY
        if NOBODY_POLLS[0] < at < NOBODY_POLLS[1]:
            continue
        asked = np.flatnonzero(~settled[: fleet.created_by(at)])
        counts = fleet.counts_at(asked, simulated.to_ms(at))
        status = np.array(simulated.STATUSES, dtype=object)[counts.status]
        is_terminal = np.isin(status, ["SUCCESS", "ERROR", "CANCELLED"])
        settled[asked[is_terminal]] = True
        labels = [fleet.labels[label] for label in fleet.label[asked]]
        polls.append(
            pd.DataFrame(
                {
                    "batch_id": [fleet.batch_ids[batch] for batch in asked],
                    "observed_at": pd.Timestamp(at),
                    "created_at": pd.to_datetime(fleet.created_ms[asked], unit="ms", utc=True),
                    "batch_status": status,
                    "batch_count": counts.batch_count,
                    "success_count": counts.success_count,
                    "error_count": counts.error_count,
                    "cancelled_count": counts.cancelled_count,
                    "pending_count": counts.pending_count,
                    "policy_id": [policy or None for policy, _ in labels],
                    "policy_version": [version or None for _, version in labels],
                    "has_download": is_terminal,
                    "is_terminal": is_terminal,
                }
            )
        )
    return pd.concat(polls, ignore_index=True)


def pictures() -> dict[str, Callable[[], Figure]]:
    """Name every picture of the gallery and say how to draw it."""
    fleet = simulated.make_fleet(seed=4, batches=1600, weeks=4.0)
    observations = observe(fleet)
    one = observations[observations["policy_id"] == "hate-speech"]
    daily = partial(ska.rates, freq="1D", tz=ZONE)
    return {
        "throughput": lambda: ska.plot_throughput(daily(one)).figure,
        "throughput_stacked": lambda: (
            ska.plot_throughput(daily(observations, by="policy_id"), stacked=True).figure
        ),
        "throughput_hourly": lambda: ska.plot_throughput(ska.rates(one, freq="1h", tz=ZONE)).figure,
        "error_rate": lambda: ska.plot_error_rate(daily(one)).figure,
        "error_rate_grid": lambda: ska.plot_grid(ska.plot_error_rate, daily(observations)),
        "backlog": lambda: (
            ska.plot_backlog(ska.backlog(observations, freq="6h", by="policy_id", tz=ZONE)).figure
        ),
        "completion_time": lambda: ska.plot_completion_time(ska.completion_time(observations)).figure,
        "control_chart": lambda: ska.plot_control_chart(ska.control_chart(daily(one, by="policy_id"))).figure,
        "comparison": lambda: (
            ska.plot_comparison(
                ska.compare_versions(observations, policy_id="hate-speech", baseline="v7")
            ).figure
        ),
        "readme": lambda: ska.plot_grid(ska.plot_error_rate, daily(observations), sharey=False),
        "comparison_all": lambda: (
            ska.plot_comparison(ska.compare_versions(observations, policy_id=None, baseline=None)).figure
        ),
    }


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, draw in pictures().items():
        # A fixed resolution and no metadata: the same data gives the same bytes with the same matplotlib.
        draw().savefig(IMAGES / f"{name}.png", dpi=80, metadata={"Software": None})
