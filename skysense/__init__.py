"""See what a foundation model sees: SkySense features of any place, from Python.

`import skysense as sky` is quick: every name below is resolved when it is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Region": "region",
    "split_region": "region",
    "SENSORS": "sensors",
    "load_stack": "sources",
    "available": "sources",
    "open_geotiff": "sources.files_geotiff",
    "read_labels": "sources.files_labels",
    "open_stack": "stack",
    "save_stack": "stack",
    "Dates": "dates",
    "acquisitions": "dates",
    "choose_dates": "dates",
    "summary": "dates",
    "Batch": "batch",
    "Encoder": "encoders",
    "load_encoder": "encoders",
    "embed": "embedding",
    "embed_steps": "progressive",
    "forecast": "embedding",
    "TokenCache": "tokens",
    "sensitivity": "subsets",
    "uncertainty": "subsets",
    "change_control": "subsets",
    "attention": "attended",
    "half_features": "halves",
    "experts": "inside",
    "prompt_attention": "inside",
    "query_masks": "masks",
    "query_levels": "masks",
    "leading_query": "masks",
    "fit_pca": "analysis",
    "pca": "analysis",
    "fit_umap": "analysis",
    "umap": "analysis",
    "cluster": "analysis",
    "fit_prototypes": "analysis",
    "assign": "analysis",
    "atlas": "analysis",
    "examples": "analysis",
    "open_bank": "analysis",
    "save_bank": "analysis",
    "usage": "analysis",
    "compare": "analysis",
    "similarity": "analysis",
    "novelty": "analysis",
    "shuffled": "analysis",
    "mean_sensitivity": "analysis",
    "change": "analysis",
    "changed": "analysis",
    "change_threshold": "analysis",
    "distribution": "analysis",
    "disagreement": "analysis",
    "segment": "analysis",
    "classes": "analysis",
    "training_points": "analysis",
    "Labels": "analysis",
    "LabelClass": "analysis",
    "points_of": "analysis",
    "spatial_score": "analysis",
    "agreement": "analysis",
    "save_features": "export",
    "open_features": "export",
    "save_classes": "export",
    "save_labels": "labels_file",
    "open_labels": "labels_file",
    "provenance_at": "pixel",
    "save_table": "table",
    "save_item": "item",
    "save_figure": "view",
    "Session": "session",
    "SessionPlace": "session",
    "SessionClass": "session",
    "SessionView": "session",
    "SessionChoices": "session",
    "open_session": "session_file",
    "save_session": "session_file",
    "feature_hash": "hashes",
    "share_text": "link",
    "shared": "link",
    "as_code": "notebook",
    "save_notebook": "notebook",
    "save_pack": "pack",
    "open_pack": "pack",
    "replay": "replaying",
}
_MODULES = ("view", "synthetic")

__all__ = ["__version__", *_HOMES, *_MODULES, "explore"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"skysense.{_HOMES[name]}"), name)
    if name == "view":
        return importlib.import_module("skysense.view")
    if name == "synthetic":
        return importlib.import_module("skysense.sources.synthetic")
    if name == "explore":  # lives above this package and is therefore found by name
        return importlib.import_module("app.notebook").explore
    raise AttributeError(f"skysense has no {name!r}; it has {', '.join(sorted(__all__))}.")


def __dir__() -> list[str]:
    return sorted(__all__)
