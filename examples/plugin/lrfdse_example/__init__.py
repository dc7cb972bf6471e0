"""An example of a plug-in for lrfdse: a meter, a fitting method, a sampler and a metric."""
