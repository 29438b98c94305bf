"""Few-shot anomaly detection with CLIP, learned prompts and a patch memory."""

import os

# Read once, when torch is first imported: idle OpenMP threads sleep instead of
# spinning, without which jobs that share cores slow each other down many times.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Read once, when NumPy is first imported: its sort with AVX-512 takes seven times as
# long as with AVX2 on AMD's Zen 4 (numpy/x86-simd-sort, issue 6), and AUROC is a sort.
os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", "X86_V4")
