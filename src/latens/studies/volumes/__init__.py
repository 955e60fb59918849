"""Stages exp1, exp2 and exp3 of `growth`: latents of 3-D scans."""
