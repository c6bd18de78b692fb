"""Files as the system has them: regular ones only, read within bounds. What is in them belongs to other rooms."""
