"""Scale and shift of depth: the evidence for them, how they are fitted, and what applies without evidence."""
