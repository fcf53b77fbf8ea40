"""Submitted runs and those who work them off.

`asking` is what can be said of a run before a model is loaded, `stopping` how a worker is asked to
end, `heart` how it says that it lives, `loop` the worker itself; the last one alone needs torch.
"""
