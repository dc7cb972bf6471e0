"""Parts of scripts/bench/meter.py: the model meter against hardware and against a simulator."""
