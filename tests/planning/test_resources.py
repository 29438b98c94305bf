"""Memory and time that jobs ask for."""

from fsad.planning.resources import SNAKEMAKE_MB, memory, minutes


def test_memory_is_a_quarter_more_than_measured_and_grows_with_images():
    assert memory("prepare", 0, 1) == 82 + SNAKEMAKE_MB  # 1.25 times 65
    assert memory("prepare", 200, 1) == 164 + SNAKEMAKE_MB  # and 2 times 33


def test_each_attempt_asks_for_more():
    assert memory("prepare", 0, 3) == 3 * 82 + SNAKEMAKE_MB
    assert minutes("train", 0, [100], 3) == 3 * minutes("train", 0, [100], 1)


def test_time_is_four_times_that_measured_for_images_and_epochs():
    assert minutes("train", 100, [100], 1) == 11  # 2 and 4 times 2.2, rounded up
    assert minutes("train", 400, [100], 1) == 20
    assert minutes("train", 200, [100, 100], 1) == 20
    assert minutes("embed", 200, [], 1) == 14
