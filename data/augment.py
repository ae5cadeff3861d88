"""The random choices of ImageNet's training images, drawn from explicit generators (CutMix paper's code).

Brightness, contrast, saturation and lighting all map a pixel's colour affinely, once the image's mean grey is known.
So they and the normalisation become a single 3x4 matrix an image, applied to whole batches on the device.
"""

import numpy as np
import torch

GREY = np.array([0.299, 0.587, 0.114])
JITTER = 0.4  # brightness, contrast and saturation change by up to this factor
LIGHTING = 0.1  # standard deviation along the principal components of ImageNet's colours (Krizhevsky et al., 2012)
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def random_box(rng, width, height, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), tries=10):
    """A random part (left, top, right, bottom) of an image: area uniform, aspect ratio log-uniform.

    Where no try fits inside, the central part with the nearest possible ratio (Szegedy et al., 2015, as torchvision).
    """
    for _ in range(tries):
        pixels = width * height * rng.uniform(*area)
        aspect = np.exp(rng.uniform(*np.log(ratio)))
        w, h = round(np.sqrt(pixels * aspect)), round(np.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            return int(left), int(top), int(left + w), int(top + h)
    w, h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def jitter(rng, mean_colour):
    """One image's random colour change as a matrix [3, 4]: colour -> matrix[:, :3] @ colour + matrix[:, 3].

    Colours lie in 0..1 and are not clamped. mean_colour [3] is the image's, which contrast needs.
    """
    colour = np.eye(3, 4)
    for kind in rng.permutation(3):
        strength = rng.uniform(-JITTER, JITTER)
        if kind == 1:  # contrast: towards the mean grey, the same for all pixels
            grey = GREY @ (colour[:, :3] @ mean_colour)  # nothing was added before
            colour *= 1 - strength
            colour[:, 3] += strength * grey
        elif kind == 2:  # saturation: towards the pixel's grey
            colour = (1 - strength) * colour + strength * (GREY @ colour)
        else:  # brightness: towards black
            colour *= 1 - strength
    colour[:, 3] += EIGENVECTORS @ (EIGENVALUES * rng.normal(0, LIGHTING, 3))
    return colour


def normalising(colour, mean, std):
    """The matrix [3, 4] on values 0..255 that does what `colour` does on 0..1, then normalises."""
    out = np.array(colour, float)
    out[:, 3] -= mean
    out /= np.array(std)[:, None]
    out[:, :3] /= 255
    return out


def recolour(x, colour):
    """Images uint8 [B, 3, H, W] under their matrices, float32 [B, 3, 4]; gives float32 [B, 3, H, W]."""
    colour = colour[..., None, None]
    out = colour[:, :, 3] + colour[:, :, 0] * x[:, :1]  # no matrix product: TF32 and autocast would round it
    for c in (1, 2):
        out = torch.addcmul(out, colour[:, :, c], x[:, c : c + 1].float())
    return out
