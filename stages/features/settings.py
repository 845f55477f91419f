"""Section `features` of params.yaml."""

from stages.shared.settings.section import Count, Section


class FeaturesSettings(Section):
    """How the stored activations are computed.

    Attributes:
        batch_size: pictures that go through the backbone at once.
    """

    batch_size: Count
