"""Section `features` of params.yaml."""

from stages.shared.settings.section import Count, Section


class FeaturesSettings(Section):
    """How the activations are computed and stored.

    Attributes:
        batch_size: pictures that go through the backbone at once.
        flip: whether the activations of the training pictures, flipped horizontally, are stored
            beside; an epoch then takes each picture as it is or flipped, by chance.
    """

    batch_size: Count
    flip: bool = False
