"""Passes on the bodies of If, Loop and Scan, so that layers are found and seen in there."""
