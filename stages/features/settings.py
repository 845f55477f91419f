"""Section `features` of params.yaml."""

from stages.shared.settings.section import Count, Section


class FeaturesSettings(Section):
    """How the stored activations are computed.

    Attributes:
        batch_size: pictures that go through the backbone at once.
        flip: whether the activations of the training pictures, flipped horizontally, are stored
            beside; an epoch then takes each picture as it is or flipped, by chance.
        store: whether activations are stored; without, only their statistics on the training split
            are computed, which is all that variants with `train: network` need.
    """

    batch_size: Count
    flip: bool = False
    store: bool = True
