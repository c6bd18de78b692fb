"""How the demonstration model was made: `python -m training --out FOLDER` repeats it."""
