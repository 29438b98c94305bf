from fsad.artifacts.sources import RunJob, Source


def source(name):
    return Source(f"{name}.npz", {})


def test_the_inputs_of_a_job_are_the_files_that_it_reads():
    support = {111: source("s111"), 112: source("s112")}
    rest = [source(name) for name in ("text", "prompts", "masks")]
    job = RunJob(["a", "b"], [{}, {}], source("test"), support, *rest)
    assert sorted(job.inputs()) == [
        *("masks.npz", "prompts.npz", "s111.npz", "s112.npz", "test.npz", "text.npz")
    ]
    without = job._replace(text=None, prompts=None, masks=None)
    assert sorted(without.inputs()) == ["s111.npz", "s112.npz", "test.npz"]
