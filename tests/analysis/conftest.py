from blobs import empty, features, holey, truth

__all__ = ["empty", "features", "holey", "truth"]
