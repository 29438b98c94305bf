import json

import numpy as np
import pytest

from fsad.data import ensemble
from fsad.data.ensemble import sentences
from helpers import folder_from_environment


def test_the_words_are_the_published_ones():
    folder = folder_from_environment("FSAD_PARITY", "the published prompts")
    case = np.load(folder / "parity_methods/winclip_bottle_k2.case.npz")
    meta = json.loads(str(case["meta"]))
    assert [f"{template}." for template in ensemble.TEMPLATES] == meta["templates"]
    assert [*ensemble.NORMAL] == meta["normal_states"]
    assert [*ensemble.ABNORMAL] == meta["anomalous_states"]


@pytest.mark.parametrize(
    ("states", "count"), [(ensemble.NORMAL, 154), (ensemble.ABNORMAL, 88)]
)
def test_every_state_stands_in_every_template(states, count):
    found = sentences("metal nut", states)
    assert len(set(found)) == count
    assert all("metal nut" in sentence for sentence in found)


def test_words_with_braces_are_only_words():
    assert sentences("{0}", ["bent {}"], ["a photo of {}"]) == ["a photo of bent {0}"]
