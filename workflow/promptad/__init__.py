"""Few-shot anomaly detection with CLIP, learned prompts and a patch memory."""

import os

# Read once, when torch is first imported: idle OpenMP threads sleep instead of
# spinning, without which jobs that share cores slow each other down many times.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
