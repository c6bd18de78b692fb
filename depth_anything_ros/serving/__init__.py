"""One model for many requests: the cache of estimators, and the batcher."""
