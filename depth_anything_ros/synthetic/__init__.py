"""Rendered rooms: scenes from a seed, the ray caster, the camera that moves through them."""
