"""The ignore label."""

# In a mask: no loss and no metric counts such a pixel.
IGNORED = 255
