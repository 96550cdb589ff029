# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # What can a network learn if nobody tells it anything?
#
# SkySense learns without labels. Show it the same ground twice, cut, turned and disturbed in two ways,
# and ask for the same answer; and see to it that "the same answer for everything" does not count. Here
# we do this for **thirty steps**, with the code that trains the real network, and watch what becomes of
# one field. Then we switch off one part of the learning after the other, and ask whether we could tell.
#
# Everything is small: a network of 0.6 million weights, four synthetic scenes of 480 m, Sentinel-2 and
# Sentinel-1. A real run takes thousands of steps, so do not expect a good network at the end; expect to
# see how it starts.

# %%
# %matplotlib inline
import copy
from dataclasses import replace
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from scipy import ndimage

import skysense as sky
from skysense.encoders import SkySenseEncoder
from skysense.model.config import PRESETS
from skysense.pretrain.config import PretrainConfig, without
from skysense.pretrain.heads import HeadConfig
from skysense.pretrain.loader import Loader
from skysense.pretrain.loop import begin, make_step
from skysense.pretrain.losses import contrast
from skysense.pretrain.monitors import effective_rank, feature_deviation
from skysense.pretrain.prepare import prepare
from skysense.pretrain.step import look, matched
from skysense.pretrain.terms import LossConfig
from skysense.pretrain.views import ViewConfig

torch.set_num_threads(1)  # these matrices are too small to be shared out

# %% [markdown]
# ## Places to learn from, and one to look at
#
# Four scenes are learned from. A fifth we only look at, and for that we know its truth. **No step of
# learning sees any truth**, nor the fifth scene. The white outline is "our field": the largest
# piece of maize, without the cells on its edge that hold other things too.

# %%
sensors = ("s2", "s1")
styles = ("fens", "hills", "fens", "hills")
scenes = [sky.synthetic.scene(i, 480, sensors, style=style)[0] for i, style in enumerate(styles)]
watched, truth = sky.synthetic.scene(seed=15, size=960, sensors=sensors)
watched = watched.load()
folder = TemporaryDirectory(ignore_cleanup_errors=True)
places = prepare(scenes, f"{folder.name}/places")
[elsewhere] = prepare(watched, f"{folder.name}/watched")

names = truth.attrs["categories"]
blocks = truth.values.astype(int).reshape(24, 4, 24, 4)  # cells of 10 m in cells of 40 m
kinds = blocks[:, 2, :, 2]  # in each of these, the one that we shall look at
pure = (blocks == kinds[:, None, :, None]).all((1, 3))
pieces = [ndimage.label(pure & (kinds == kind))[0] for kind in range(len(names))]
fields = [each == n for each in pieces for n in range(1, each.max() + 1) if (each == n).sum() >= 5]
maize = names.index("maize")
field = max((each for each in fields if kinds[each][0] == maize), key=np.sum)
print(f"our field: {field.sum()} of {field.size} cells of 40 m; pieces of one kind: {len(fields)}")


def outlined(pane: plt.Axes, picture: np.ndarray, colour: str = "white") -> None:
    """A picture with the outline of our field."""
    pane.imshow(picture, extent=(0, 24, 24, 0), interpolation="nearest")
    pane.contour(np.arange(24) + 0.5, np.arange(24) + 0.5, field, [0.5], colors=colour)
    pane.set_axis_off()


figure, panes = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
outlined(panes[0], sky.view.colours(sky.view.true_colour_field(watched["s2"])))
outlined(panes[1], sky.view.colours(truth))
panes[0].set_title("clearest Sentinel-2 date", fontsize=9)
panes[1].set_title("truth, for looking only", fontsize=9)
figure.supxlabel("SYNTHETIC scene", fontsize=8)
plt.show()

# %% [markdown]
# ## Two views of one place
#
# A *view* is a window of a place, at some of its dates, mirrored and turned, with bands dropped, gains
# changed and speckle added. Two views of one place overlap, and we know which cell of one is which cell
# of the other: the same numbers below are the same ground.

# %%
tiny = PRESETS["tiny"]
network = replace(
    tiny,
    name="classroom",
    s2=replace(tiny.s2, dim=64, layers=2),
    s1=replace(tiny.s1, dim=64, layers=2),
    fusion=replace(tiny.fusion, in_dim=128, dim=64, layers=1),
    parts=tuple(part for part in tiny.parts if part != "hr"),
)
recipe = PretrainConfig(
    network,
    steps=30,
    batch=8,
    rate=2e-3,
    warmup=0.1,
    teacher=0.9,  # in thirty steps a slower teacher would hardly move
    precision="float32",
    start=False,
    loss=LossConfig(prediction=0.0),
    views=ViewConfig(
        sizes=((16, 1.0),),
        dates=(("hr", 1), ("s2", 3), ("s1", 2)),
        positions=16,
        drop_sensor=0.0,
        loose=0.0,  # tokens always meet
    ),
    heads=HeadConfig(hidden=128, out=64, prototypes=64),
)


def pairs_of(config: PretrainConfig, among: list = places) -> Loader:
    """The pairs of views of every step; the same seed gives the same pairs."""
    several = {name: getattr(config, name) for name in ("batch", "steps", "seed")}
    return Loader(among, config.views, config.augment, **several)


pair = pairs_of(recipe)[0]
clear = [each.sensors["s2"].valid[:, 0].float().mean((1, 2)) for each in (pair.u, pair.v)]
sample = int((clear[0] * clear[1]).argmax())
rgb = [sky.SENSORS["s2"].names.index(name) for name in ("red", "green", "blue")]
figure, panes = plt.subplots(1, 2, figsize=(6, 3.2), layout="constrained")
for pane, each, at, name in zip(panes, (pair.u, pair.v), pair.cells, "uv", strict=True):
    light = each.sensors["s2"].pixels[sample, 0, rgb].permute(1, 2, 0)
    pane.imshow((light / 0.2).clip(0, 1), interpolation="nearest")
    for k, spot in enumerate(at[sample, :6].tolist(), 1):
        row, column = divmod(spot, pair.plan.size)
        pane.text(column, row, str(k), color="white", ha="center", va="center", weight="bold")
    pane.set_title(f"view {name}, one date of Sentinel-2", fontsize=9)
    pane.set_axis_off()
figure.supxlabel("SYNTHETIC scene, 160 m", fontsize=8)
plt.show()

# %% [markdown]
# ## The question that is asked
#
# There are two networks, a **student** and a **teacher**. The student sees view `u` and learns; the
# teacher sees view `v` and is the moving average of what the student was. Each has a small *head*, thrown
# away afterwards, that turns a feature into a unit vector `z` and compares it with unit vectors `c₁ ... c_K`
# (its prototypes; they are learned too, and are not those of notebooks 02 and 05):
#
# ```
# student   p_k = softmax over k of  cos(z, c_k) / 0.1
# teacher   q_k = the same at 0.04 and later 0.07, but shared out (Sinkhorn, see notebook 05):
#                 over all pixels together every prototype gets the same mass
# L_CL    = − Σ_k  q_k · log p_k          the student is to say what the teacher says
# ```
#
# `L_CL` is small when `p` is large wherever `q` is. By hand, for three prototypes:

# %%
cosines = torch.tensor([[0.9, 0.2, -0.5]])
teacher_says = torch.tensor([[0.8, 0.2, 0.0]])
student_says = (cosines / 0.1).softmax(-1)
by_hand = -(teacher_says * student_says.log()).sum()
ours = contrast(cosines, teacher_says, temperature=0.1)[0]
print("student", *[f"{p:.4f}" for p in student_says[0]])
print("teacher", *[f"{q:.4f}" for q in teacher_says[0]])
print(f"L_CL by hand {float(by_hand):.4f}, by skysense.pretrain.losses {float(ours):.4f}")
assert torch.allclose(by_hand, ours)

# %% [markdown]
# The question is put at three sizes, to each sensor and to the fused features:
#
# ```
# L_pix     mean of L_CL over pixels that both views see
# L_obj     the same for objects: pixels that the teacher finds alike, averaged
# L_img     the same for the mean of a whole view
# L_FGCL  = L_pix + L_obj + L_img                                   of one sensor, or of the fused
# L_MGCL  = L_FGCL of S2 + L_FGCL of S1 + L_FGCL of the fused
# L       = L_MGCL + ½ L_align
# ```
#
# `L_align` is of another kind. In one view, what Sentinel-2 says of a pixel (`a`) is to be nearer to what
# Sentinel-1 says of the same pixel (`b`) than to what it says of pixels of *other places* (`b'`), and
# the other way round:
#
# ```
# L_align = − log [ exp(cos(a, b) / 0.1)  /  ( exp(cos(a, b) / 0.1) + Σ exp(cos(a, b') / 0.1) ) ]
# ```
#
# The paper gives the sums; temperatures and the form of `L_CL` are choices of ours
# (`skysense/pretrain/losses.py`). The real run adds a term, `L_pred`, and does not start from random
# numbers (`docs/pretraining.md`); here we look at the losses of the paper alone.
#
# ## Thirty steps
#
# `make_step` is one step of the real training: two views, the loss, its gradient, AdamW, and the teacher
# follows. Before, after ten and after thirty steps we take a copy of the student.


# %%
def learn(config: PretrainConfig) -> tuple[dict, list]:
    """Students before, after 10 and after 30 steps, and a line of the log for each step."""
    run, pairs = begin(config, device="cpu"), iter(pairs_of(config))
    students, log = {0: copy.deepcopy(run.student.model)}, []
    for step in range(config.steps):
        log.append(make_step(run, pairs, step))
        if step + 1 in (10, config.steps):
            students[step + 1] = copy.deepcopy(run.student.model)
    return students, log


students, log = learn(recipe)
print(f"{sum(p.numel() for p in students[0].parameters()):,} weights")
print(f"the loss, first and last: {log[0]['loss']:.1f} {log[-1]['loss']:.1f}")

# %% [markdown]
# Now we look. Every cell of the watched scene has a vector of 64 numbers. How much is a field **one**
# thing? Its *scatter* is the mean squared distance of its cells from their own mean, divided by that of
# all cells from the mean of all: 1 is as scattered as the whole scene, 0 is a single point.
#
# We look at one cell of 10 m in each token of 40 m, always at the same place in the token. (The sixteen
# places in a token have weights of their own, see notebook 03. We come back to them.)


# %%
def seen_by(model: torch.nn.Module, spacing: int = 40) -> xr.DataArray:
    """Fused features of the watched scene, from six dates of light and four of radar."""
    encoder = SkySenseEncoder(
        copy.deepcopy(model), name="classroom", weights="thirty steps", licence="none", device="cpu"
    )
    return sky.embed(watched, encoder, dates=sky.Dates(s2=6, s1=4), resolution=spacing)


def rows_of(features: xr.DataArray) -> np.ndarray:
    """(cells, features)."""
    return features.values.reshape(len(features), -1).T.astype(float)


def scatter_of(features: xr.DataArray, chosen: np.ndarray) -> float:
    """Variance of some cells over the variance of all."""
    rows = rows_of(features)
    return float(rows[chosen.ravel()].var(0).sum() / rows.var(0).sum())


looks = {step: seen_by(model) for step, model in students.items()}
figure, panes = plt.subplots(2, 3, figsize=(9.5, 6.4), layout="constrained")
inks = np.array(sky.view.palette(len(names)))
for (above, below), (step, features) in zip(panes.T, looks.items(), strict=True):
    centred = rows_of(features) - rows_of(features).mean(0)
    x, y = np.linalg.svd(centred, full_matrices=False)[0][:, :2].T * len(centred) ** 0.5
    above.scatter(x, y, s=9, c=inks[kinds.ravel()], alpha=0.35, linewidths=0)
    ours = field.ravel()
    above.scatter(x[ours], y[ours], s=26, c=inks[kinds.ravel()][ours], edgecolors="black")
    above.set_title(f"{step} steps: our field {scatter_of(features, field):.2f}", fontsize=10)
    above.set_xticks([])
    above.set_yticks([])
    outlined(below, sky.view.colours(sky.pca(features)))
panes[0, 0].set_ylabel("two main directions", fontsize=9)
figure.supxlabel(
    "SYNTHETIC scene, not learned from · dots: 40 m cells, coloured by the truth for looking only, "
    "ringed: our field\nbelow: the first three directions as red, green and blue",
    fontsize=8,
)
plt.show()

# %% [markdown]
# The ringed dots have come together, mostly in the first ten steps, and the maps have larger patches of one
# colour. Nobody said *maize*, and other fields of maize lie elsewhere: nothing asked for them to be one.
# Be careful with the pictures, though. Each is drawn along its own main directions, so left and right, up
# and down and the colours mean something else in each. What can be compared is the number in the title,
# which is computed from all 64 features.
#
# ## Is it alive?
#
# There is a cheap way to give the same answer twice: always give the same answer. A network that does so
# has **collapsed**. *Monitors* look for it; here is what they say of three clouds of made-up features.

# %%
noise = torch.Generator().manual_seed(0)
cloud = torch.randn(500, 64, generator=noise)
clouds = {
    "in all directions": cloud,
    "all but the same": 1 + 0.01 * cloud,
    "along one line": cloud[:, :1] * cloud[0],
}
for name, each in clouds.items():
    deviation, rank = float(feature_deviation(each)), float(effective_rank(each))
    print(f"{name:18} deviation {deviation:.2f} (0..1), rank {rank:4.1f} (1..64)")

# %% [markdown]
# Neither number alone sees both ways to die. Two more are in the log: the *entropy* of what the teacher
# says (0: always sure of one prototype, 1: all are equally likely) and its *agreement* with the student,
# how often both name the same prototype first.

# %%
parts = {
    "pixel": "L_pix",
    "deviation": "deviation of pixels",
    "rank": "rank of pixels",
    "pixel/entropy": "entropy of the teacher",
    "pixel/agreement": "agreement on pixels",
}
figure, panes = plt.subplots(1, 5, figsize=(13, 2.6), layout="constrained")
for pane, (part, title) in zip(panes, parts.items(), strict=True):
    for name in ("s2", "s1", "fused"):
        key = f"{name}/{part}"
        points = [(line["step"], line[key]) for line in log if key in line]
        pane.plot(*zip(*points, strict=True), "o-" if len(points) < 10 else "-", label=name)
    pane.set_title(title, fontsize=9)
    pane.set_xlabel("step", fontsize=8)
    pane.set_xlim(0, 31)
    if part != "pixel":
        pane.set_ylim(bottom=0)
for pane, value in ((panes[0], np.log(64)), (panes[4], 1 / 64)):
    pane.axhline(value, color="grey", lw=0.8)
    pane.text(31, value, "guessing", ha="right", va="bottom", fontsize=7, color="grey")
panes[0].legend(fontsize=7)
plt.show()

# %% [markdown]
# After a while the student does better on the sensors than one who calls all 64 prototypes equally likely
# (*guessing*), and the two networks agree more often than by chance; with the fused features, which hang
# on both sensors and on other dates, it is slower. Deviation and entropy stay well above 0: nothing
# has collapsed. But look at the **rank**. The pixels use far fewer directions than before. Many of those
# were random differences and are well lost; but a collapse begins in the same way, and thirty steps
# do not tell which of the two this is. Part of what came together did so because the network says fewer
# different things.
#
# ## What about the other fifteen cells?
#
# In every token of 40 m we looked at one cell of 10 m. Each of the sixteen is made with weights of its own,
# and untrained they differ. How much of the variance of all 10 m cells is due to nothing but the place
# in the token?


# %%
def chequer(features: xr.DataArray) -> float:
    """Share of the variance that lies between the sixteen places in a token."""
    values = features.values.reshape(len(features), 24, 4, 24, 4)
    return float(values.mean((1, 3)).var((1, 2)).sum() / features.values.var((1, 2)).sum())


for step in (0, 30):
    print(f"after {step:2} steps: {chequer(seen_by(students[step], spacing=10)):.0%}")

# %% [markdown]
# The chequer of notebook 03 has not gone: it has grown. At 10 m a field is not one thing after thirty
# steps; the sixteen have still to learn to agree. (Exercises 1 and 2 look for the reason, and ahead; the
# real run starts without a chequer.)
#
# ## Each loss switched off in turn
#
# `without(recipe, ("pixel",))` is the same run without `L_pix`, and so on. We make each of them with two
# seeds (other first weights, other views), because runs that differ in **nothing but the seed** differ
# too. Of each we ask, on the watched scene:
#
# * *pixels agree*: cosine between the fused features of one cell in two views, less what all cells share;
#   0 is chance, 1 the same,
# * *images agree*: the same for the means of two views,
# * *sensors agree*: do Sentinel-2 and Sentinel-1 find the same pairs of pixels alike? The correlation
#   between their two lists of cosines,
# * *scatter of fields*: as above, mean over all pieces of one kind,
# * *right*: share of cells that a classifier with five clicks per class gets right.

# %%
probe = pairs_of(replace(recipe, batch=32), [elsewhere])[0]


def apart(rows: torch.Tensor) -> torch.Tensor:
    """Each feature in standard deviations from its mean, then every row scaled to length 1."""
    return torch.nn.functional.normalize((rows - rows.mean(0)) / (rows.std(0) + 1e-6), dim=1)


@torch.no_grad()
def answers(model: torch.nn.Module) -> dict[str, float]:
    """What a student has to say to the five questions."""
    ready = copy.deepcopy(model).eval()
    u, v = matched(look(ready, probe, 0), look(ready, probe, 1), probe)
    one, other = u.parts["fused"], v.parts["fused"]
    pixels = apart(one.values[one.weight]) * apart(other.values[one.weight])
    images = apart(one.image[one.image_weight]) * apart(other.image[one.image_weight])
    s2, s1 = u.parts["s2"], u.parts["s1"]
    both = s2.weight[:, 0] & s1.weight[:, 0]  # the first date of each
    alike = [apart(each.values[:, 0][both]) for each in (s2, s1)]
    upper = torch.triu_indices(int(both.sum()), int(both.sum()), 1)
    lists = torch.stack([(rows @ rows.T)[upper[0], upper[1]] for rows in alike])
    features = seen_by(model)
    return {
        "pixels agree": float(pixels.sum(1).mean()),
        "images agree": float(images.sum(1).mean()),
        "sensors agree": float(torch.corrcoef(lists)[0, 1]),
        "scatter of fields": float(np.mean([scatter_of(features, each) for each in fields])),
        "right": accuracy(features),
    }


def accuracy(features: xr.DataArray) -> float:
    """Share of cells that five clicks per class get right, mean over three draws of the clicks."""
    known = truth.isel(y=slice(2, None, 4), x=slice(2, None, 4))
    known = known.assign_coords(x=features["x"], y=features["y"])
    scores = []
    for seed in range(3):
        clicks = sky.training_points(known, features, per_class=5, seed=seed)
        predicted = sky.classes(sky.segment(features, clicks))
        scores.append(sky.agreement(predicted, known).accuracy)
    return float(np.mean(scores))


runs = {"all losses": recipe}
for part in ("pixel", "object", "image", "alignment"):
    runs[f"without {part}"] = without(recipe, (part,))
table: dict[str, list[dict[str, float]]] = {"0 steps": []}
for name, config in runs.items():
    for seed in (0, 1):
        known = config is recipe and seed == recipe.seed
        learned = students if known else learn(replace(config, seed=seed))[0]
        table.setdefault(name, []).append(answers(learned[30]))
        if config is recipe:
            table["0 steps"].append(answers(learned[0]))

questions = list(table["0 steps"][0])
print(" " * 18 + "".join(f"{question:>19}" for question in questions))
for name, two in table.items():
    cells = ["{:.2f} {:.2f}".format(*(each[question] for each in two)) for question in questions]
    print(f"{name:18}" + "".join(f"{cell:>19}" for cell in cells))
spectral = sky.load_encoder("spectral")
percentiles = sky.embed(watched, spectral, dates=sky.Dates(s2=6, s1=4), resolution=40)
unlearned = accuracy(percentiles)
print(f"for comparison, percentiles of the same dates, nothing learned: {unlearned:.2f} right")

# %% [markdown]
# Read a row only where both seeds say the same:
#
# * without `L_obj` pixels hardly agree, and fields are more scattered. Without `L_pix` little changes: where
#   an image is made of fields, its objects ask of pixels what their neighbours ask;
# * without `L_img` whole images agree less. Pixels agree *more*: the losses share one network, and what
#   one of them does not ask for is free for another;
# * without `L_align` the sensors agree less. But even with it they agree no more than before the first
#   step: so far it has only kept them from drifting apart;
# * no run makes a better **map** than the one with all losses with both seeds; one without `L_obj` makes a
#   worse one, and the others differ by no more than what lies between two seeds. And all of them are far
#   behind percentiles, which learned nothing.
#
# So each loss does what it says, and after thirty steps of a small network that is about all we know. What
# each is worth shows at the end of long runs, on real places (`docs/evaluation.md`).
#
# ## The picture

# %%
figure, panes = plt.subplots(1, 5, figsize=(12, 2.8), sharey=True, layout="constrained")
rows = np.arange(len(table))[::-1]
for pane, question in zip(panes, questions, strict=True):
    low, high = sorted(each[question] for each in table["all losses"])
    pane.axvspan(low, high, color="#dddddd")
    for seed, mark in ((0, "o"), (1, "s")):
        values = [two[seed][question] for two in table.values()]
        pane.plot(values, rows, mark, color=f"C{seed}", ms=5, label=f"seed {seed}")
    pane.set_title(question, fontsize=9)
    pane.tick_params(labelsize=8)
panes[0].set_yticks(rows, list(table))
panes[-1].axvline(unlearned, color="grey", lw=0.8)
panes[0].legend(fontsize=7)
small_print = "grey band: between two runs with all losses; grey line: percentiles"
figure.supxlabel(f"SYNTHETIC scene, not learned from · {small_print}", fontsize=8)
plt.show()

# %% [markdown]
# Outside the grey band on the same side in *both* seeds: a hint of a difference. Inside it: nothing.
#
# ## What we learned
#
# * Two views of one place, and a teacher that is one's own past, are enough to pull the pixels of a field
#   together.
# * The teacher's targets are shared out among prototypes, lest "always the same" be an answer. Monitors
#   watch for it, and it takes several, since there are several ways to collapse.
# * A falling loss, a prettier map and a useful feature are three things. Measure the third, with two seeds
#   or more and beside something that learned nothing.
#
# ## Exercises
#
# 1. `L_pix` falls in jumps. Let `plan = pairs_of(recipe)[step].plan` (`step` counts from 0) and find the
#    steps with `plan.turn_u == plan.turn_v`. What happens there, and what has it to do with the chequer?
# 2. Learn for a hundred steps: `learn(replace(recipe, steps=100))`. Look at `answers(...)` and `chequer(...)`.
# 3. Learn ten times as fast, `rate=2e-2`. Is the loss at the end higher? What do `answers` and the monitors
#    say?
# 4. A teacher that never moves, `teacher=1.0`, stays what it was: random. What can one learn from it?
#
# <details><summary>Solutions</summary>
#
# 1. The dips at steps 4, 7, 19 and 22 are such steps: mirrored and turned alike, both views show a token's
#    ground the same way round, with every cell at the same place in it. Even a random network answers
#    alike then; in the other steps it must learn that a turned field is the same field. As for the chequer:
#    before fused pixels are compared, the mean of all cells at the same place in their token is taken away,
#    so the place is no answer (a *shortcut*) any more. But nothing asks for it to go, either.
# 2. Pixels now agree by 0.86, the sensors by 0.17 (more than untrained), and the scatter of fields is 0.07.
#    The chequer begins to fall (71 %). 67 % of the cells are right, hardly more than after thirty steps.
# 3. The loss ends as low, but only 54 % of the cells are right, our field is scattered by 0.47, and the rank
#    of the pixels is near 2 for both sensors and for the fused: they collapse. The loss would not have told.
# 4. Nearly as much, for thirty steps: the scatter of fields is 0.18, and 62 % are right. A random network
#    already tells water from wood, and to say the same of another view one must look. But there it ends,
#    whereas a teacher that follows can get better.
#
# </details>
#
# *Where this lives:* `skysense/pretrain/losses.py`, `skysense/pretrain/loop.py`,
# `skysense/pretrain/monitors.py`, `docs/pretraining.md`.
