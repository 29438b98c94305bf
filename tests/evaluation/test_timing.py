from collections import Counter

import pytest

from fsad.evaluation.timing import speed, timed


def test_the_time_of_a_step_is_summed(monkeypatch):
    times = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr("fsad.evaluation.timing.perf_counter", lambda: next(times))
    seconds = Counter()
    for _ in range(2):
        with timed(seconds, "decode"):
            pass
    assert seconds == {"decode": 2.5}


def test_the_time_of_writing_is_not_in_the_rate():
    seconds = Counter(decode=1.0, network=6.0, score=3.0, write=2.0)
    assert speed(200, seconds) == (
        "200 images, 20.0 a second, 50.0 ms an image "
        "(decode 5.0, network 30.0, score 15.0); write 10.0"
    )


def test_an_error_within_a_step_is_raised():
    with pytest.raises(KeyError), timed(Counter(), "decode"):
        raise KeyError
