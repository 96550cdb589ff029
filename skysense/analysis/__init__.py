"""What can be asked of features: reduced, grouped, compared, searched, classified, scored.

Every function takes features (feature, y, x) with NaN where nothing was seen, and returns fields
on the same grid that carry the features' provenance.
"""

from skysense.analysis.banks import bank_digest, bank_text, open_bank, read_bank, rename, save_bank
from skysense.analysis.blocks import SpatialScore, spatial_score
from skysense.analysis.changes import (
    Distribution,
    change,
    change_threshold,
    changed,
    distribution,
)
from skysense.analysis.comparison import Comparison, compare
from skysense.analysis.disagreement import disagreement
from skysense.analysis.doubt import novelty, shuffled
from skysense.analysis.firing import atlas, examples
from skysense.analysis.groups import cluster
from skysense.analysis.influence import mean_sensitivity
from skysense.analysis.labels import label_field, training_points
from skysense.analysis.marks import LabelClass, Labels, points_of
from skysense.analysis.prototypes import assign, fit_prototypes, names_of, sinkhorn, usage
from skysense.analysis.reduce import Projection, fit_pca, fit_umap, open_projection, pca, umap
from skysense.analysis.score import Agreement, agreement
from skysense.analysis.search import similarity
from skysense.analysis.segmentation import Segmenter, classes, segment

__all__ = [
    "Agreement",
    "Comparison",
    "Distribution",
    "LabelClass",
    "Labels",
    "Projection",
    "Segmenter",
    "SpatialScore",
    "agreement",
    "assign",
    "atlas",
    "bank_digest",
    "bank_text",
    "change",
    "change_threshold",
    "changed",
    "classes",
    "cluster",
    "compare",
    "disagreement",
    "distribution",
    "examples",
    "fit_pca",
    "fit_prototypes",
    "fit_umap",
    "label_field",
    "mean_sensitivity",
    "names_of",
    "novelty",
    "open_bank",
    "open_projection",
    "pca",
    "points_of",
    "read_bank",
    "rename",
    "save_bank",
    "segment",
    "shuffled",
    "similarity",
    "sinkhorn",
    "spatial_score",
    "training_points",
    "umap",
    "usage",
]
