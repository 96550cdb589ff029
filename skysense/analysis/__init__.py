"""What can be asked of features: reduced, grouped, compared, searched, classified, scored.

Every function takes features (feature, y, x) with NaN where nothing was seen, and returns fields
on the same grid that carry the features' provenance.
"""

from skysense.analysis.blocks import SpatialScore, spatial_score
from skysense.analysis.comparison import Comparison, compare
from skysense.analysis.groups import cluster
from skysense.analysis.labels import label_field, training_points
from skysense.analysis.marks import LabelClass, Labels, points_of
from skysense.analysis.prototypes import assign, fit_prototypes, sinkhorn, usage
from skysense.analysis.reduce import Projection, fit_pca, fit_umap, open_projection, pca, umap
from skysense.analysis.score import Agreement, agreement
from skysense.analysis.search import similarity
from skysense.analysis.segmentation import Segmenter, classes, segment

__all__ = [
    "Agreement",
    "Comparison",
    "LabelClass",
    "Labels",
    "Projection",
    "Segmenter",
    "SpatialScore",
    "agreement",
    "assign",
    "classes",
    "cluster",
    "compare",
    "fit_pca",
    "fit_prototypes",
    "fit_umap",
    "label_field",
    "open_projection",
    "pca",
    "points_of",
    "segment",
    "similarity",
    "sinkhorn",
    "spatial_score",
    "training_points",
    "umap",
    "usage",
]
