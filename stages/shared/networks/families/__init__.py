"""The networks that heads can stand on: their layers, and how they see colours."""
