"""A page in the browser to drive within the dream."""
