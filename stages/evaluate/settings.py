"""Section `evaluate` of params.yaml."""

from stages.shared.settings.section import Count, Section, Split


class Evaluate(Section):
    """What is measured.

    Attributes:
        split: the one that is measured.
        batch_size: pictures that go through the network at once.
    """

    split: Split
    batch_size: Count
