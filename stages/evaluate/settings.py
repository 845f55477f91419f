"""Section `evaluate` of params.yaml."""

from stages.shared.settings.section import Count, Section, Split


class Evaluate(Section):
    """How the variants are measured.

    Attributes:
        split: on which the variants are measured.
        batch_size: pictures that go through the network at once.
    """

    split: Split
    batch_size: Count
