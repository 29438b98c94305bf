"""Overlay of anomaly maps on their images."""

import cv2
import numpy as np

OPACITY = 0.5


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Blend heat [H, W] in 0..1, from blue to red, with an image uint8 [H, W, 3]."""
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_JET)
    colours = cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(image, 1 - OPACITY, colours, OPACITY, 0)


def png_name(name: str) -> str:
    """File name of the picture drawn for image `name`."""
    return name if name.endswith(".png") else f"{name}.png"
