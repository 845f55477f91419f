"""This pipeline against others that train the same networks."""
