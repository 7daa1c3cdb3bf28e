"""Make examples/street.segmented.jpg, the README's picture, from examples/street.jpg.

Left to right: the photo, the net's labels, and the labels after the dense CRF. The net is
DeepLab-LargeFOV with the random weights of the README's first command.
"""

from pathlib import Path

import numpy as np

from deeplab_repro import DeepLab
from deeplab_repro.image import overlay, read_image, write_image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def main() -> None:
    image = read_image(EXAMPLES / "street.jpg")
    model = DeepLab("DeepLab-LargeFOV", weights="random:1")
    net_only = model.run_net(image)
    refined = model.refine(image, net_only)
    gap = np.full((image.shape[0], 8, 3), 255, np.uint8)
    panels = [image, gap, overlay(image, net_only.labels), gap, overlay(image, refined.labels)]
    write_image(EXAMPLES / "street.segmented.jpg", np.hstack(panels))


if __name__ == "__main__":
    main()
