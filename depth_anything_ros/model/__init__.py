"""The network: DINOv2 encoder, DPT head, and the table of known sizes."""
