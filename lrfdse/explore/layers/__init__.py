"""One layer at a time: spectra, fronts, fits, latencies, and the options that come of them."""
