"""Section `compare` of params.yaml."""

from stages.shared.settings.section import Count, Section, Share


class Compare(Section):
    """How the variants are shown side by side.

    Attributes:
        pictures: how many to show, evenly spaced over the split.
        opacity: of the masks, 0 to 1.
    """

    pictures: Count
    opacity: Share
