"""Scale and shift of depth: what tells them, how they are fitted, and what holds while nothing does."""
