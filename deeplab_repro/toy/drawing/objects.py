"""VOC's classes as ToyVOC draws them: the drawing, the size and the places of each."""

from collections.abc import Callable
from dataclasses import dataclass

from deeplab_repro.toy.drawing import animals, things, vehicles
from deeplab_repro.toy.drawing.pen import Pen


@dataclass(frozen=True)
class Kind:
    """One class: its drawing, the places where it lives, its size, how often it is in the air.

    `size` multiplies the scene's usual length of an object's longer side.
    """

    draw: Callable[[Pen], None]
    places: tuple[str, ...]
    size: float = 1.0
    flies: float = 0.0


KINDS: dict[str, Kind] = {
    "aeroplane": Kind(vehicles.aeroplane, ("sky", "field", "water"), 1.35, flies=0.8),
    "bicycle": Kind(vehicles.bicycle, ("road", "field"), 1.25),
    "bird": Kind(animals.bird, ("sky", "field", "water"), 1.0, flies=0.5),
    "boat": Kind(vehicles.boat, ("water",), 1.15),
    "bottle": Kind(things.bottle, ("desk", "room"), 0.95),
    "bus": Kind(vehicles.bus, ("road",), 1.1),
    "car": Kind(vehicles.car, ("road", "field"), 1.2),
    "cat": Kind(animals.cat, ("room", "desk", "field"), 0.85),
    "chair": Kind(things.chair, ("room",), 1.1),
    "cow": Kind(animals.cow, ("field",), 1.0),
    "diningtable": Kind(things.diningtable, ("room",), 1.3),
    "dog": Kind(animals.dog, ("room", "field", "road"), 0.9),
    "horse": Kind(animals.horse, ("field", "road"), 1.15),
    "motorbike": Kind(vehicles.motorbike, ("road", "field"), 1.05),
    "person": Kind(animals.person, ("road", "field", "room"), 1.25),
    "pottedplant": Kind(things.pottedplant, ("desk", "room", "road"), 0.95),
    "sheep": Kind(animals.sheep, ("field",), 0.95),
    "sofa": Kind(things.sofa, ("room",), 1.15),
    "train": Kind(vehicles.train, ("road", "field"), 1.45),
    "tvmonitor": Kind(things.tvmonitor, ("desk", "room"), 0.85),
}
"""In the order of VOC's labels 1..20."""
