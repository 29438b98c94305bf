"""Few-shot anomaly detection over every class of a data set.

import fsad
from fsad.data.images import read_image
fabric = fsad.load("fabric.safetensors")
scores, maps, anomalous = fabric.predict([read_image("photograph.png")])
"""

import os

# Read once, when torch is first imported: idle OpenMP threads sleep instead of
# spinning, without which jobs that share cores slow each other down many times.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Read once, when NumPy is first imported: its sort with AVX-512 takes seven times as
# long as with AVX2 on AMD's Zen 4 (numpy/x86-simd-sort, issue 6), and AUROC is a sort.
os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", "X86_V4")


def load(path, device="cpu", class_name=None):
    """The detector of a run's folder, or of a file of `fsad export`.

    device: `cpu`, `cuda` or `cuda:N`. class_name: of a file with several. Returns an
    `evaluation.detector.Detector`, see its `predict`. Raises `errors.UserError` for a
    path that is none, and unless the class is one of the file, or its only one.
    """
    from fsad.evaluation.detector_files import chosen_class
    from fsad.evaluation.predict import open_detectors

    detectors = open_detectors(path, device)
    return detectors[chosen_class(detectors, class_name)]
