# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # Can one network read a photograph and a radar image?
#
# SkySense V1 has an encoder for every sensor (notebook 03). SkySense V2 has **one** transformer for all of
# them. This notebook opens it and looks at the four things that make that possible: *tokens* of one width,
# *merging* that can be left out, *prompts* that say which sensor is speaking, and *experts* of which every
# token meets one. At the end they hang side by side, over one place.
#
# No real place at hand has all three sensors at a useful size. So the photograph is of Las Vegas and the
# dates of Sentinel-2 and Sentinel-1 are of West Flanders; where the folder of real places is absent, all
# three are of one synthetic scene.

# %%
# %matplotlib inline
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import skysense as sky
from skysense.batch import to_batch
from skysense.encoders import SHIPPED, normalised
from skysense.merging import schedule_of
from skysense.windows import Lattice, plan_windows

torch.set_num_threads(1)  # these matrices are too small to be shared out
recipes = Path("../tests/recipes")
if Path("../../shared/data/be-flanders-parcels").is_dir():
    stacks = [
        sky.load_stack(recipes / f"{name}.toml")
        for name in ("be-flanders-parcels", "us-vegas-spacenet")
    ]
    days = sky.Dates(first="2018-03-01", last="2018-10-31", s2=12, s1=6)
else:
    stacks = [sky.synthetic.scene(seed=3)[0]] * 2
    days = sky.Dates(s2=12, s1=6)
fields, town = (sky.choose_dates(stack, days if "s2" in stack else None) for stack in stacks)


def one_window(stack, *sensors):
    """The first window of a stack, as tensors."""
    lattice = Lattice.from_attrs(stack.attrs)
    return to_batch(stack, plan_windows(lattice, lattice.bounds)[:1]).only(sensors)


name = "skysense-v2-tiny" if "skysense-v2-tiny" in SHIPPED else "skysense-v2-tiny-untrained"
encoder = sky.load_encoder(name, device="cpu", precision="float32")
model = encoder.model
series, photograph = one_window(fields, "s2", "s1"), one_window(town, "hr")
clear = {
    key: int(each.valid.flatten(2).float().mean(2).argmax()) for key, each in series.sensors.items()
}
images = {"hr": normalised(photograph, "hr")[0][0, :, :, 512:768, 384:640]}
images |= {key: normalised(series, key)[0][0, day : day + 1] for key, day in clear.items()}
for key, image in images.items():
    print(f"{key}: {tuple(image.shape)}")

# %% [markdown]
# ## Three ways in, one width
#
# Each sensor has a *tokenizer*: a 4 × 4 patch of its pixels, whatever its bands, becomes one vector. After
# that nothing but the numbers in it says where a vector came from, and all pass the same four stages.

# %%
with torch.inference_mode():
    levels = {key: model.pyramid(key, image).levels for key, image in images.items()}
print("        vectors per image (width) after each of the four stages")
for key, maps in levels.items():
    side = sky.sensors.SENSORS[key].resolution * images[key].shape[-1]
    shapes = [f"{m.shape[2]}² × {m.shape[1]:<3} at {side / m.shape[2]:g} m" for m in maps]
    print(f"{key}: ", "   ".join(shapes))

# %% [markdown]
# ## Merge or keep
#
# Between stages vectors become twice as wide. The photograph *merges* 2 × 2 of them into one, so that 1.25 m
# become 10 m. A Sentinel pixel is 10 m already; there the same weights are used on each vector alone: the
# four blocks of the merge matrix are added up. On ground where neighbours are equal both say the same.

# %%
merge = model.backbone.stages[2].downsample
with torch.inference_mode():
    flat = torch.randn(1, 1, 1, levels["s2"][1].shape[1]).expand(1, 8, 8, -1)
    merged, kept = merge(flat), merge.keep(flat)
print(tuple(flat.shape), "merged", tuple(merged.shape), " kept", tuple(kept.shape))
assert torch.allclose(merged.repeat_interleave(2, 1).repeat_interleave(2, 2), kept, atol=1e-5)

# %% [markdown]
# Nothing forces the photograph to merge. With `load_encoder(..., merge="2,3")` its last tokens are of 5 m, and
# so on: finer, and slower. In the last two stages every token looks at every other, so four times the tokens
# are up to sixteen times the work. (Features for maps stay on 10 m cells; what is drawn here are the tokens.)


# %%
def three(features):
    """(c, h, w) → (h, w, 3): the first three principal components, stretched to 0..1."""
    flat = features.flatten(1).T.double()
    flat = flat - flat.mean(0)
    scores = flat @ torch.linalg.svd(flat, full_matrices=False)[2][:3].T
    low, high = scores.quantile(torch.tensor([0.1, 0.9]).double(), dim=0)
    return ((scores - low) / (high - low)).clip(0, 1).reshape(*features.shape[1:], 3)


panels = {
    "photograph, 80 m": photograph.sensors["hr"].pixels[0, 0, :, 512:768, 384:640].permute(1, 2, 0)
    / 255
}
for schedule in ("2,3,4", "2,3", "2", "none"):
    with torch.inference_mode():
        begun = time.process_time()
        last = model.pyramid("hr", images["hr"], merge=schedule_of(schedule)).levels[-1][0]
        spent = time.process_time() - begun
    print(
        f"merge={schedule:<6} {last.shape[1]:>2}² tokens of {80 / last.shape[1]:>5} m, {spent:.2f} s"
    )
    panels[f'merge="{schedule}"'] = three(last)


def hang(panels, note, **options):
    """Pictures side by side."""
    figure, axes = plt.subplots(1, len(panels), figsize=(12.5, 2.9), layout="constrained")
    for axis, (title, picture) in zip(axes, panels.items(), strict=True):
        axis.imshow(picture, interpolation="nearest", **options)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    figure.supxlabel(note, fontsize=7)
    plt.show()


status = "UNTRAINED random weights" if encoder.untrained else "trained"
hang(panels, f"{town['hr'].attrs['licence']} · {name}, {status}")

# %% [markdown]
# At 10 m a roof is a few tokens; without merging, kerbs, rows of cars and the shadow of the roof come apart.
# Each picture has colours of its own. It is the same network each time, trained with the first schedule only.
#
# ## Which sensor is speaking?
#
# In the last two stages four learned vectors of the sensor, its *prompts*, stand before those of the image.
# Every token may look at them; they are dropped at the end of the stage. How much are they looked at, and
# what happens if the radar is announced as an optical image?

# %%
looked = encoder.prompt_attention(series)
for key, shares in looked.items():
    print(
        f"{key}: tokens give {100 * float(shares.nansum(2).mean()):.1f} % of their attention to prompts"
    )


def announced(key, by):
    """The last map of a sensor, with the prompts of another."""
    own = [each.data.clone() for each in getattr(model, key).prompts]
    for mine, theirs in zip(getattr(model, key).prompts, getattr(model, by).prompts, strict=True):
        mine.data.copy_(theirs.data)
    with torch.inference_mode():
        last = model.pyramid(key, images[key]).levels[-1]
    for mine, before in zip(getattr(model, key).prompts, own, strict=True):
        mine.data.copy_(before)
    return last


for key, by in (("s2", "s1"), ("s1", "s2")):
    moved = (announced(key, by) - levels[key][-1]).norm(dim=1) / levels[key][-1].norm(dim=1)
    print(
        f"{key} announced as {by}: its tokens move by {100 * float(moved.median()):.0f} % of their length"
    )

# %% [markdown]
# Tokens give a tenth of their attention to prompts, and yet it hardly matters whose prompts they are: after
# the short training of `skysense-v2-tiny` they are a place to rest attention on rather than a name. What makes
# a radar image different from an optical one has entered with the tokenizer. The paper reports that prompts
# help; a network this small does not show why. Attention is not explanation.
#
# ## Experts
#
# In the last blocks a token meets one of several MLPs, which a small linear *router* picks for it. That makes
# room for more weights without more work. Nobody tells the router about sensors or seasons: what it splits by
# is up to it.

# %%
experts = encoder.experts(series) | encoder.experts(photograph)
count = model.config.backbone.experts
used = {
    key: torch.bincount(each[each >= 0], minlength=count).double() for key, each in experts.items()
}
for key, tokens in used.items():
    shares = "  ".join(f"{100 * share:3.0f} %" for share in tokens / tokens.sum())
    print(f"{key}: {shares}   of {int(tokens.sum()):,} tokens")

# %% [markdown]
# The photograph goes almost wholly to two experts, and radar leaves one of them almost alone, though a loss asked for
# all to be used alike: over *all* sensors together, so that each may have its favourites.
#
# ## The picture
#
# What was seen, which expert Sentinel-2's tokens went to on that day, which one most of Sentinel-1's dates went
# to, how much Sentinel-2 looked at its prompts, and what became of all dates. The last picture is V2's way of
# learning without labels: sixteen *queries*, learned vectors, look for their own kind of ground in the fused
# features of every place; here is which of them looks at a cell most.

# %%
features = sky.embed(fields, encoder)
seen = fields["s2"].isel(time=[clear["s2"]])
day = str(seen["time"].values[0])[:10]
queries = sky.leading_query(sky.query_masks(features, encoder, sky.query_levels(features, encoder)))
panels = {
    f"Sentinel-2, {day}": seen,
    "experts of Sentinel-2": sky.experts(fields, encoder, sensor="s2", date=day),
    "experts of Sentinel-1": sky.experts(fields, encoder, sensor="s1"),
    "attention to prompts": sky.prompt_attention(fields, encoder, sensor="s2"),
    "fused features": sky.pca(features),
    "leading query": queries,
}
sky.view.figure(*panels.values(), titles=list(panels))

# %% [markdown]
# Fields, village and hedges come apart in the fused features. Experts and prompts know less: they sort tokens of
# 40 m before any date has met another. And how much does the leading query lead?

# %%
shares = sky.query_masks(features, encoder, sky.query_levels(features, encoder))
print(f"even looks would be {1 / shares.sizes['query']:.3f} of a cell for each query")
print(f"they are {float(shares.quantile(0.01)):.3f} to {float(shares.quantile(0.99)):.3f}")

# %% [markdown]
# Three times an even look is the most that any of them reaches. A map of *which leads* hides by how much it leads: ask
# for the shares before you believe a map of winners.
#
# ## What we learned
#
# * One backbone reads three sensors because each has a tokenizer of its own; after it, all weights are shared.
# * The same merge weights make 10 m of a photograph and keep Sentinel's grid; the schedule is a choice of each call.
# * Experts share tokens out by sensor and by ground without being told; prompts take attention and, here, little
#   more.
# * Every look inside is a map, also with random weights: compare with `skysense-v2-tiny-untrained` first.
#
# ## Exercises
#
# 1. Draw the last picture with `skysense-v2-tiny-untrained`. Which of the six would have fooled you?
# 2. `encoder.experts(series, block=0)` is the first block with experts. Is it as much of a matter of sensors?
# 3. Encode the photograph with `merge="none"` and the photograph shifted by 8 pixels. Which tokens should be equal,
#    and why are they not quite?
#
# <details><summary>Solutions</summary>
#
# 1. Experts and prompts: random ones follow fields too, since the input does. Fused features and queries of random
#    weights are a chequer of the cells of each token.
# 2. Print `used` again with that block: routers of different blocks need not agree on what to split by.
# 3. Tokens two apart. Windows of the first two stages begin at the corner of the image and so fall elsewhere, and in the
#    last two every token is told where it lies and also looks at those that left the image or came in.
#
# </details>
#
# *Where this lives:* `skysense/model/backbone.py`, `skysense/model/moe.py`, `skysense/inside.py`, `skysense/masks.py`.
# What the paper leaves open and what was decided: `docs/decisions/v2.md`.
