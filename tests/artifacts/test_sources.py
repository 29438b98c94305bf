from fsad.artifacts.sources import Embedding, RunJob, Source


def source(name):
    return Source(f"{name}.npz", {})


def embedding(name):
    return Embedding(source(f"images_{name}"), source(name))


SUPPORT = {111: embedding("s111"), 112: embedding("s112")}
VISION = source("vision")
REST = [source(name) for name in ("text", "prompts", "masks")]


def test_the_inputs_of_a_job_are_the_files_that_it_reads():
    job = RunJob(["a", "b"], [{}, {}], embedding("test"), SUPPORT, VISION, *REST)
    read = ["images_s111.npz", "images_s112.npz", "vision.npz"]
    read += ["s111.npz", "s112.npz", "test.npz"]
    rest = ["masks.npz", "prompts.npz", "text.npz"]
    assert sorted(job.inputs()) == sorted(read + rest)
    without = job._replace(text=None, prompts=None, masks=None)
    assert sorted(without.inputs()) == sorted(read)


def test_a_job_that_computes_features_reads_the_images_and_the_tower():
    rest = [None] * 3
    job = RunJob(["a"], [{}], embedding("test"), SUPPORT, VISION, *rest, stored=False)
    expected = [f"images_{name}.npz" for name in ("s111", "s112", "test")]
    assert sorted(job.inputs()) == [*expected, "vision.npz"]
