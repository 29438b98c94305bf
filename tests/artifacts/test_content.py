import hashlib
import json

from fsad.artifacts.content import content_digest, digest_of, file_digest


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()


def test_the_order_of_keys_does_not_matter():
    first, second = {"a": 1, "b": [2]}, json.loads('{"b": [2], "a": 1}')
    assert content_digest(first) == content_digest(second)
    assert digest_of(first) == digest_of(second)


def test_other_values_have_another_digest():
    values = [1, 2], [[1], 2], [[1, 2]], [{"a": 1}], [{"a": 2}], ["1", 2]
    assert len({digest_of(*value) for value in values}) == len(values)
