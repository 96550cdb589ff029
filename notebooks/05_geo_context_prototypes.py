# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # What does this part of the Earth usually look like?
#
# SkySense divides the Earth into cells and keeps a *bank* of **prototypes** for each: typical features of
# what was seen there. A pixel is then described by its own feature, and by what the bank has to say about
# features like it. This is the *geo-context*.
#
# Three pieces make it work: a way to share pixels out among prototypes so that none goes without
# (Sinkhorn), a way to move the prototypes (a moving average), and a way to divide the Earth. We take them
# one by one, the first with numbers small enough for a pencil, and end with two places and a look at what
# their prototypes stand for.

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import ot
import pandas as pd
import torch
import xarray as xr
from matplotlib.colors import ListedColormap

import skysense as sky
from app.basemap import CREDIT, land_mask
from skysense import analysis
from skysense.cells import division
from skysense.model import prototypes as network
from skysense.model.config import PrototypeConfig
from skysense.sources.files_labels import read_labels

# %% [markdown]
# ## Four pixels, three prototypes
#
# Row by row, the cosine of each pixel with each prototype, chosen such that the weights
# `exp(cosine / 0.1)` are small whole numbers. 0.1 is *epsilon*: the smaller it is, the more a small
# difference counts.

# %%
weights = np.array([[8.0, 2, 1], [8, 4, 1], [4, 1, 1], [1, 1, 4]])
epsilon = 0.1
cosines = epsilon * np.log(weights)
print(cosines.round(3))
print("nearest prototype of each pixel:", 1 + cosines.argmax(1))

# %% [markdown]
# Three of four pixels are nearest to prototype 1, and to prototype 2 none. If prototypes followed only the
# pixels nearest to them, the second would never move and never learn.
#
# **Sinkhorn's** way is to treat it as transport. Each pixel has 1/4 of the goods to give, and each
# prototype has room for 1/3. Begin with the weights and put right, in turns,
#
# 1. the columns: scale each such that it sums to 1/3,
# 2. the rows: scale each such that it sums to 1/4, which spoils the columns a little,
#
# and again. Try the first column with a pencil: 8 + 8 + 4 + 1 = 21, so 8 becomes 8/21 · 1/3 = 0.127.


# %%
def by_hand(weights: np.ndarray, rounds: int) -> np.ndarray:
    """Columns, then rows, so many times."""
    plan = weights.copy()
    n, k = plan.shape
    for _ in range(rounds):
        plan = plan / plan.sum(0) / k
        plan = plan / plan.sum(1, keepdims=True) / n
    return plan


after_columns = weights / weights.sum(0) / 3
stages = {
    "weights": weights,
    "columns put right": after_columns,
    "then rows: one round": by_hand(weights, 1),
    "three rounds": by_hand(weights, 3),
    "a thousand rounds": by_hand(weights, 1000),
}
figure, panes = plt.subplots(1, 5, figsize=(12.5, 3), layout="constrained")
for pane, (title, plan) in zip(panes, stages.items(), strict=True):
    pane.imshow(plan / plan.max(), cmap="Blues", vmin=0, vmax=1.6)
    style = "{:.0f}" if title == "weights" else "{:.3f}"
    for (row, column), value in np.ndenumerate(plan):
        pane.text(column, row, style.format(value), ha="center", va="center", fontsize=8)
    pane.set_xticks(range(3), [style.format(total) for total in plan.sum(0)], fontsize=8)
    pane.set_yticks(range(4), [style.format(total) for total in plan.sum(1)], fontsize=8)
    pane.set_title(title, fontsize=9)
    pane.tick_params(length=0)
panes[0].set_ylabel("pixel (beside it: its sum)", fontsize=8)
figure.supxlabel("prototype (below it: its sum)", fontsize=8)
plt.show()

# %% [markdown]
# In the end every pixel has given 1/4 and every prototype has got 1/3. Prototype 2 got most from pixel 2:
# not because pixel 2 is nearest to it (it is nearer to prototype 1), but because it minds least. That is
# the whole trick, and after three rounds it is nearly done.
#
# ## The same, three times
#
# The package has it twice, for arrays (`skysense.analysis`) and for training (`skysense.model`, whose rows
# sum to 1 instead of 1/n). POT (*Python optimal transport*) is an independent library. All have to agree.


# %%
def largest_difference(cosines: np.ndarray, epsilon: float, rounds: int) -> float:
    """Between by hand, ours for arrays, ours for training, and POT."""
    n, k = cosines.shape
    hand = by_hand(np.exp(cosines / epsilon), rounds)
    arrays = analysis.sinkhorn(cosines, epsilon, rounds)
    training = network.sinkhorn(torch.from_numpy(cosines), epsilon, rounds).numpy() / n
    shares = np.full(n, 1 / n), np.full(k, 1 / k)
    pot = ot.sinkhorn(*shares, -cosines, epsilon, numItermax=rounds, stopThr=0, warn=False)
    return max(float(np.abs(other - hand).max()) for other in (arrays, training, pot))


some = np.random.default_rng(0).uniform(-1, 1, (500, 20))
for name, matrix in {"4 x 3": cosines, "500 x 20": some}.items():
    for rounds in (1, 3, 1000):
        apart = largest_difference(matrix, epsilon, rounds)
        print(f"{name:>8}, {rounds:4} rounds: largest difference {apart:.0e}")
        assert apart < 1e-6

# %% [markdown]
# ## Prototypes that move
#
# Now the prototypes `P` follow. `F` are the features of some pixels, `S` the plan, with every column scaled
# to sum 1, so that `Sᵀ F` is a *mean*: what each prototype was given, on average.
#
# ```
# P̄ = Sᵀ F                      where each prototype's pixels lie
# P ← m P + (1 − m) P̄           a step of a tenth of the way, for m = 0.9
# ```
#
# Two features are enough to draw it. The pixels are of three kinds, which fill 60, 25 and 15 % of the
# ground; four prototypes start where they know nothing.

# %%
rng = np.random.default_rng(1)
angles = np.concatenate(
    [rng.normal(middle, 7, count) for middle, count in ((20, 240), (75, 100), (130, 60))]
)
lengths = rng.normal(1, 0.06, len(angles))
dots = lengths[:, None] * np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], 1)
dots = torch.from_numpy(dots)
start = torch.tensor([[0.3, 0.5], [0.2, 0.6], [0.0, 0.6], [-0.2, 0.5]], dtype=torch.float64)
settings = PrototypeConfig(context=True, epsilon=0.05, iterations=3, momentum=0.9)


def moved(bank: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """One step as in the box above."""
    cosines = torch.nn.functional.normalize(features) @ torch.nn.functional.normalize(bank).T
    plan = torch.from_numpy(by_hand(np.exp(cosines.numpy() / settings.epsilon), 3))
    mean = (plan / plan.sum(0)).T @ features
    return settings.momentum * bank + (1 - settings.momentum) * mean


path = [start]
for _ in range(80):
    batch = dots[rng.choice(len(dots), 100, replace=False)]
    path.append(moved(path[-1], batch))
    assert torch.allclose(path[-1], network.updated_bank(path[-2], batch, settings), atol=1e-9)
figure, pane = plt.subplots(figsize=(5, 3.6), layout="constrained")
pane.scatter(*dots.T, s=5, color="#bbbbbb")
for k, colour in enumerate(sky.view.palette(4)):
    way = torch.stack(path)[:, k]
    pane.plot(*way.T, color=colour, lw=1.2)
    pane.plot(*way[0], "o", mfc="white", color=colour)
    pane.plot(*way[-1], "o", color=colour, ms=9)
pane.set_aspect("equal")
pane.set_title("80 steps of four prototypes; hollow: start", fontsize=9)
plt.show()

# %% [markdown]
# The rare kind has got a prototype of its own, which a nearest-only rule does not promise. But the common
# kind, having more to give than one prototype may take, has got two, and they ended on the same spot:
# **twins**, of which one is wasted. So our code looks for twins, and for prototypes that nothing is nearest
# to, and places them anew where pixels are explained worst. (That, and reading `Sᵀ F` as a mean, is ours:
# the paper's code for this was never released.)
#
# ## The Earth, divided
#
# Cells are made by equal steps of longitude and equal steps of the **sine** of latitude. That makes them all
# equally large: on a sphere, the area between two parallels goes with the difference of their sines. In
# degrees they get taller towards the poles.
#
# The two places are those of notebook 02: West Flanders (village, maize, grass) and Hesbaye (open arable
# land), both in Belgium, if the folder of real places lies beside the project; otherwise two synthetic ones.

# %%
recipes = Path("../tests/recipes")
if Path("../../shared/data/be-flanders-parcels").is_dir():
    flanders = sky.load_stack(recipes / "be-flanders-parcels.toml")
    hesbaye = sky.load_stack(recipes / "be-hesbaye-monthly.toml")
    stacks, years = {"Flanders": flanders, "Hesbaye": hesbaye}, (2018, 2021)
    labels = read_labels(recipes / "be-flanders-parcels.toml", "crop_type")
else:
    fens, labels = sky.synthetic.scene(style="fens", sensors=("s2",))
    hills, _ = sky.synthetic.scene(style="hills", sensors=("s2",))
    stacks, years = {"fens": fens, "hills": hills}, (2023, 2023)
season = {
    name: sky.Dates(first=f"{year}-03-01", last=f"{year}-10-31")
    for name, year in zip(stacks, years, strict=True)
}


def fair(stack: xr.DataTree) -> xr.DataTree:
    """Sentinel-2 without the one band that Hesbaye lacks (see notebook 02)."""
    bands = [name for name in stack["s2"]["band"].values if name != "nir08"]
    return xr.DataTree.from_dict(
        {"/": stack.to_dataset(), "/s2": stack["s2"].to_dataset().sel(band=bands)}
    )


encoder = sky.load_encoder("spectral")
features = {
    name: sky.embed(fair(each), encoder, dates=season[name]) for name, each in stacks.items()
}
boxes = {name: each.odc.geobox.geographic_extent.boundingbox for name, each in features.items()}
lonlat = {name: ((b.left + b.right) / 2, (b.bottom + b.top) / 2) for name, b in boxes.items()}
earth = division(1024)
cell = {name: int(earth.cell_of(*where)) for name, where in lonlat.items()}
for name, (lon, lat) in lonlat.items():
    print(f"{name}: {lon:.2f}° E, {lat:.2f}° N lies in cell {cell[name]} of {earth.count}")
for number in (*set(cell.values()), 0):
    west, south, east, north = np.radians(earth.bounds(number))
    area = 6371**2 * (east - west) * (np.sin(north) - np.sin(south))
    print(f"cell {number}: {np.degrees(north - south):.1f}° from south to north, {area:,.0f} km²")

# %%
first = next(iter(cell.values()))
land_and_sea = ListedColormap(["#f3f1eb", "#c5dbe6"])
west, south, east, north = earth.bounds(first)
figure, panes = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=(2, 1), layout="constrained")
views = ((-180, 180, -90, 90, 0.5), (west - 6, east + 6, south - 4, north + 4, 0.05))
for pane, (left, right, bottom, top, fine) in zip(panes, views, strict=True):
    rows = ((90 - np.arange(top, bottom, -fine)) * 120).astype(int)
    columns = ((np.arange(left, right, fine) + 180) * 120).astype(int)
    sea = land_mask().sea(rows, columns)
    pane.imshow(sea, extent=(left, right, bottom, top), cmap=land_and_sea, interpolation="nearest")
    pane.vlines(earth.longitudes, bottom, top, color="#888888", lw=0.4)
    pane.hlines(earth.latitudes, left, right, color="#888888", lw=0.4)
    for number in set(cell.values()):
        corners = np.array(earth.outline(number)["coordinates"][0])
        pane.plot(*corners.T, color="#d55e00", lw=2)
    pane.set(xlim=(left, right), ylim=(bottom, top), aspect="auto")
    pane.tick_params(labelsize=7)
for (name, (lon, lat)), side in zip(lonlat.items(), ("right", "left"), strict=True):
    panes[1].plot(lon, lat, "o", color="black", ms=4)
    panes[1].text(lon, lat + 0.3, name, ha=side, fontsize=8)
panes[0].set_title("1,024 cells", fontsize=9)
panes[1].set_title(f"cell {first}", fontsize=9)
figure.supxlabel(CREDIT, fontsize=7)
plt.show()

# %% [markdown]
# Half a million km² is much for one bank; but a small network has seen few places. (The paper has 4,096
# cells, and does not tell its rule.) Whatever lies in one cell shares its bank: if both places do, they will.
#
# The banks of a network are a module, `Prototypes`. Let us have it follow our two places as it would in
# training, only with the plainest features there are (percentiles of each band over the season, notebook
# 01), and then ask it for two cells.

# %%
torch.manual_seed(0)
seen = {
    name: torch.from_numpy(each.values.reshape(len(each), -1).T.copy())
    for name, each in features.items()
}
width = next(iter(seen.values())).shape[1]
held = network.Prototypes(
    PrototypeConfig(context=True, cells=earth.count, count=6, momentum=0.9), width
)
again = 0
for _ in range(40):
    draws = [rows[torch.randint(len(rows), (256,))] for rows in seen.values()]
    batch = torch.stack(draws).transpose(1, 2)[..., None]  # place, feature, pixel, 1
    again += held.update(batch, torch.tensor(list(cell.values()))).reseeded
banks, trained = held(torch.tensor([first, first + 1]))
print(f"cell {first}: trained {bool(trained[0])}, prototypes placed anew {again}")
print(f"cell {first + 1}: trained {bool(trained[1])}, all zeros {not banks[1].any()}")

# %% [markdown]
# A cell that was never trained says zeros, and features made there say so in their attributes. A pixel with
# feature `Q` reads the bank of its cell by attention, and what it read is put behind its own feature:
#
# ```
# context = softmax(Q Pᵀ / √d) P
# ```

# %%
pixels = next(iter(seen.values()))[:5]
shares = (pixels @ banks[0].T / width**0.5).softmax(-1)
context = network.read_out(pixels.T[None, :, :, None], banks[:1])[0, :, :, 0].T
assert torch.allclose(shares @ banks[0], context, atol=1e-5)
print("how much five pixels read of each prototype:")
print(shares.numpy().round(2))

# %% [markdown]
# The reading is soft: everybody gets a bit of everything. Untrained features do that; in training, the
# network can learn to ask more sharply.
#
# ## What is a prototype?
#
# A vector of 62 numbers says little. To see what one stands for, look at the pixels that are nearest to it.
# `fit_prototypes` does what the module does for the places at hand and for any encoder (it centres the
# features first); `assign` names the nearest prototype of each pixel, and its `strength`, how near it is.

# %%
bank = sky.fit_prototypes(features, n=6, seed=0)
kinds = {name: sky.assign(each, bank) for name, each in features.items()}
shares = xr.concat([sky.usage(each) for each in kinds.values()], "region", combine_attrs="override")
shares = shares.assign_coords(region=list(kinds))
sky.view.figure(*kinds.values(), shares, titles=[*kinds, "share of each prototype"])

# %% [markdown]
# ## The picture
#
# Each row is a prototype: of each place the three pixels nearest to it (in the middle of the square, on the
# clearest date, no two of them within 80 m), and then the season of *all* its pixels: the NDVI, which is high
# where much green grows. (Hesbaye has one mean per month, drawn at the first of the month.)

# %%
RADIUS = 5


def examples(kind: xr.DataArray, prototype: int, count: int = 3) -> list[tuple[int, int]]:
    """(row, column) of the strongest pixels of a prototype that are apart and not at the edge."""
    strength = np.where(kind.values == prototype, kind["strength"].values, -np.inf)
    strength[:RADIUS] = strength[-RADIUS:] = -np.inf
    strength[:, :RADIUS] = strength[:, -RADIUS:] = -np.inf
    found = []
    while len(found) < count and np.isfinite(strength).any():
        row, column = np.unravel_index(strength.argmax(), strength.shape)
        found.append((int(row), int(column)))
        strength[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9] = -np.inf
    return found


def greenness(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Days of year of a place's season, and the NDVI (t, y, x), NaN where it was not seen."""
    group = sky.choose_dates(stacks[name], season[name])["s2"]
    red, nir = (group["data"].sel(band=band).values for band in ("red", "nir"))
    ndvi = (nir - red) / np.maximum(nir + red, 0.01)
    return group["time"].dt.dayofyear.values, np.where(group["valid"].values, ndvi, np.nan)


pictures = {
    name: sky.view.colours(sky.view.true_colour_field(sky.choose_dates(each, season[name])["s2"]))
    for name, each in stacks.items()
}
curves = {name: greenness(name) for name in stacks}
figure = plt.figure(figsize=(11.5, 8.2), layout="constrained")
panes = figure.subplots(6, 7, width_ratios=(1,) * 6 + (4,))
for prototype, row in enumerate(panes):
    for pane in row[:-1]:
        pane.set_axis_off()
    for place, (name, kind) in enumerate(kinds.items()):
        for pane, (y, x) in zip(row[3 * place :], examples(kind, prototype), strict=False):
            around = slice(y - RADIUS, y + RADIUS + 1), slice(x - RADIUS, x + RADIUS + 1)
            pane.imshow(pictures[name][around], interpolation="nearest")
            pane.plot(RADIUS, RADIUS, "+", color="white")
        days, ndvi = curves[name]
        mine = kind.values == prototype
        if mine.sum() >= 20:
            inside = ndvi[:, mine]
            clear = np.isfinite(inside).mean(1) > 0.5
            middle = np.nanmedian(inside[clear], axis=1)
            row[-1].plot(
                days[clear], middle, ".-", color=f"C{place}", label=f"{name}\n{mine.sum():,} pixels"
            )
    row[-1].set(xlim=(55, 310), ylim=(0, 1))
    row[-1].tick_params(labelsize=6)
    row[-1].legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    row[0].text(
        -0.3, 0.5, str(prototype + 1), transform=row[0].transAxes, ha="right", va="center",
        weight="bold",
    )  # fmt: skip
for pane, name in zip(panes[0, [1, 4]], stacks, strict=True):
    pane.set_title(f"{name}, 110 m", fontsize=9)
panes[0, -1].set_title("NDVI by day of the year", fontsize=9)
credits = dict.fromkeys(str(each.attrs["licence"]) for each in stacks.values())
figure.supxlabel(" · ".join(credits), fontsize=6)
plt.show()

# %% [markdown]
# With the Belgian places: 1 is green all season, like grass. 2 is a little green always: village, roads, edges.
# 4 is bare in early May and green from July: a summer crop, in both places. Nobody told it so; but it takes a
# look at its pixels to give it a name.
#
# Now rows 3 and 6. In Hesbaye these are winter crops, green in May and cut in July. In Flanders they are
# summer crops, bare in May. **One prototype, two opposite seasons!** Percentiles know how much of the season
# was green, and not *when*. A prototype is no better than the features it is made of, and here is something
# that a network which reads dates should do better (exercise 3).
#
# ## Names?
#
# For one place we have labels. Beside the prototypes:

# %%
name, kind = next(iter(kinds.items()))
known = analysis.label_field(labels, features[name])
inside = np.isfinite(known.values)
classes = np.array(known.attrs["categories"])[known.values[inside].astype(int)]
numbers = 1 + kind.values[inside].astype(int)
print(f"{name}: labelled pixels of each prototype")
print(pd.crosstab(numbers, classes, rownames=["prototype"], colnames=[""]).to_string())

# %% [markdown]
# Some prototypes hold one class almost alone, others do not: a prototype is what is *typical*, not what has
# a name. A common class takes several (rows 3 and 4, both maize, differ in what stood there in April), and
# rare ones share.
#
# ## What we learned
#
# * Sinkhorn is nothing but columns and rows put right in turns; ours by hand, by the package and by POT are
#   the same to the last digits.
# * Equal shares keep every prototype alive, at the price of twins where one kind is common.
# * A cell of the Earth is a step of longitude by a step of sin(latitude). Each has a bank of its own, or zeros.
# * A prototype means what the pixels nearest to it have in common, **in the features used**. Look at them.
#
# A trained network's own prototypes of a place come from `encoder.bank(region)`, and `sky.assign` takes
# them as it takes those above.
#
# ## Exercises
#
# 1. `analysis.sinkhorn(cosines, epsilon, 1000)` with an epsilon of 0.01 and of 1: what does it turn into?
# 2. Eight prototypes for the three kinds, from
#    `torch.stack([torch.linspace(0.3, -0.2, 8), torch.full((8,), 0.6)], 1).double()`. Where do they end?
# 3. Tell the prototypes *when*: embed March to June and July to October by themselves, put both behind
#    each other with `both = xr.concat([early, late], "feature", combine_attrs="override")` and
#    `both.assign_coords(feature=np.arange(both.sizes["feature"]))`, and fit, assign and draw again.
#
# <details><summary>Solutions</summary>
#
# 1. With 0.01 pixels 2 and 4 give all they have to one prototype, and the others fill what room is left:
#    nearly the best transport there is. With 1 everything is close to 1/12: nobody prefers anything.
# 2. In three places, as triplets, triplets and twins. More prototypes do not find more kinds by themselves.
# 3. Winter and summer crops part: two prototypes are now green in May and cut in July and hardly occur
#    in Flanders, and one is bare in May and green in July in both places (a quarter of Flanders, a fifth of
#    Hesbaye).
#
# </details>
#
# *Where this lives:* `skysense/model/prototypes.py`, `skysense/analysis/prototypes.py`, `skysense/cells.py`,
# `skysense/context.py`.
