"""Few-shot anomaly detection with CLIP, learned prompts and a patch memory."""
