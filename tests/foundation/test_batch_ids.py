"""Creation times from ids."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetykit_analytics.batch_ids import cohort_days, created_at_us

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
FAR = 2**52
EARLIEST_MS = 1_420_070_400_000


def encode(ms: int, tail: str = "0" * 16) -> str:
    digits = ""
    for _ in range(10):
        ms, digit = divmod(ms, 32)
        digits = ALPHABET[digit] + digits
    return f"batch_{digits}{tail}"


def decode(ids, observed_us=FAR):
    return created_at_us(ids, np.full(len(ids), observed_us)).cast(pa.int64()).to_pylist()


def test_the_documented_id_decodes_to_the_published_instant(reference_cases):
    case = reference_cases["ulid"]
    assert decode([case["input"]["id"]]) == [case["expected"]["ms"] * 1000]


@given(st.integers(EARLIEST_MS, 2**41), st.text(ALPHABET, min_size=16, max_size=16))
def test_every_ulid_decodes_to_its_time(ms, tail):
    assert decode([encode(ms, tail)]) == [ms * 1000]


@given(st.lists(st.none() | st.text(max_size=40) | st.integers(0, 2**48 - 1).map(encode), max_size=20))
def test_ids_decode_one_by_one_as_they_do_together(ids):
    assert decode(ids) == [decode([each])[0] for each in ids]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "batch_",
        "batch_01hf89meedvef6pc00njv3ezh",  # one short
        "batch_01hf89meedvef6pc00njv3ezh00",  # one long
        "batch-01hf89meedvef6pc00njv3ezh0",
        "batch_01HF89MEEDVEF6PC00NJV3EZH0",  # the alphabet is lowercase
        "batch_01hf89meedvef6pc00njv3ezhu",  # no u in Crockford's alphabet
        "batch_81hf89meedvef6pc00njv3ezh0",  # 128 bits need a first digit of at most 7
        "batch_01hf89meedvef6pc00njv3ezé",  # 32 bytes, 31 characters
    ],
)
def test_what_is_no_ulid_has_no_creation_time(wrong):
    assert decode([wrong]) == [None]


def test_a_time_before_2015_is_no_creation_time():
    assert decode([encode(EARLIEST_MS - 1), encode(EARLIEST_MS)]) == [None, EARLIEST_MS * 1000]


def test_more_than_a_day_after_the_observation_is_no_creation_time():
    ms = 1_700_000_000_000
    day = 86_400_000_000
    assert decode([encode(ms)], ms * 1000 - day) == [ms * 1000]
    assert decode([encode(ms)], ms * 1000 - day - 1) == [None]


def test_slices_of_a_longer_array_decode_as_themselves():
    ids = pa.array([encode(1_700_000_000_000 + i) for i in range(5)])
    assert created_at_us(ids[2:4], np.full(2, FAR)).cast(pa.int64()).to_pylist() == [
        1_700_000_000_002_000,
        1_700_000_000_003_000,
    ]


def test_a_cohort_is_the_day_of_the_time_in_an_id():
    published, from_2101 = "batch_01hf89meedvef6pc00njv3ezh0", encode(4_136_000_000_000)
    assert cohort_days([published, "batch_1", from_2101]).tolist() == [19676, -1, -1]
