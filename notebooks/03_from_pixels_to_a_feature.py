# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # What happens to a pixel on its way to a feature?
#
# SkySense reads three sensors that have little in common: a photograph with pixels of 30 cm, dates of
# Sentinel-2 in ten bands, dates of Sentinel-1 in two polarisations. In the end there is **one
# vector for every 10 m cell**. This notebook follows the numbers and stops at every change of shape; at
# its end the stops hang side by side.
#
# The encoder is the smallest preset with *random* weights. The way is that of the paper; the widths are
# smaller, and what the numbers mean is nothing yet.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import torch

import skysense as sky
from skysense.batch import to_batch
from skysense.encoders import normalised, token_validity
from skysense.windows import Lattice, plan_windows

# %% [markdown]
# ## One window
#
# The ground is cut into windows of 640 m. In one of them all sensors cover exactly the same place, and
# 32 × 32 photograph pixels lie on one Sentinel pixel.

# %%
stack, _ = sky.synthetic.scene(seed=3)
chosen = sky.choose_dates(stack, sky.Dates(s2=100, s1=4))
chosen["s2"] = chosen["s2"].isel(
    time=slice(None, None, 3)
)  # clear or not; `embed` prefers clear ones
lattice = Lattice.from_attrs(stack.attrs)
[window] = plan_windows(lattice, lattice.bounds)
batch = to_batch(chosen, [window])
print("     (window, date, band, row, column)")
for key, each in batch.sensors.items():
    print(f"{key}: {tuple(each.pixels.shape)}")

# %% [markdown]
# ## Each date by itself
#
# First, every band is expressed in standard deviations from its mean, so that a gap can be filled with
# 0, "nothing known". Then each date goes **alone** through the encoder of its sensor. The Sentinel
# encoders are vision transformers with patches of 4 × 4 pixels: a token is 40 m. The photograph goes
# through a Swin transformer, whose last map has one vector for 32 × 32 pixels: 10 m.

# %%
encoder = sky.load_encoder("skysense-tiny-untrained", device="cpu", precision="float32")
model, encoded = encoder.model, {}
with torch.inference_mode():
    for key, each in batch.sensors.items():
        pixels, valid = normalised(batch, key)
        tokens = token_validity(key, valid)
        encoded[key] = (model.encode_dates(key, pixels, tokens), tokens, each.doy)
        print(f"{key}: {tuple(pixels.shape)} → {tuple(encoded[key][0].shape)}")

# %% [markdown]
# The number of dates has not changed, the bands have become features, and rows and columns are those of
# tokens: 16 × 16 for Sentinel, 64 × 64 for the photograph. `tokens` says which of them saw the ground.
#
# ## Up to one grid
#
# Tokens of 40 m have to meet those of 10 m. A learned 1 × 1 convolution makes 16 vectors of each
# Sentinel token, and they are laid out as 4 × 4 cells. The next layer (`fusion.input`) is linear too. Two
# linear layers in a row are one: we **fold** them by hand for the top left cell of each token, and check.

# %%
head, project = model.head_s2, model.fusion.input
one_date = encoded["s2"][0][:, 0]
with torch.inference_mode():
    raised = head(one_date)
    in_two_steps = project(raised.permute(0, 2, 3, 1))[:, ::4, ::4]
    weight, bias = head.phase(row=0, column=0)
    folded = torch.nn.Linear(weight.shape[1], project.out_features)
    folded.weight.copy_(project.weight @ weight)
    folded.bias.copy_(project.weight @ bias + project.bias)
    in_one_step = folded(one_date.permute(0, 2, 3, 1))
print("40 m", tuple(one_date.shape), "→ 10 m", tuple(raised.shape))
print(f"largest difference {float((in_two_steps - in_one_step).abs().max()):.1e}")
assert torch.allclose(in_two_steps, in_one_step, atol=1e-5)

# %% [markdown]
# ## One sequence per cell
#
# From here on **cells no longer talk to each other**. Each has a sequence of its own: an extra token, the
# photograph, the Sentinel-2 dates that were clear *there*, the Sentinel-1 dates. A transformer reads
# it, and what becomes of the extra token is the feature.

# %%
photograph, clear, radar = (tokens[0].sum(0) for _, tokens, _ in encoded.values())
length = 1 + photograph + (clear + radar).kron(torch.ones(4, 4, dtype=int))  # 40 m → 10 m
print(f"sequences of {int(length.min())} to {int(length.max())} tokens: clouds make them shorter")
with torch.inference_mode():
    fused = model.fuse(encoded)
    sparse = model.fuse(encoded, step=4, offset=(2, 2))
print("every cell", tuple(fused.shape), " every fourth only", tuple(sparse.shape))
assert torch.allclose(fused[..., 2::4, 2::4], sparse, atol=1e-5)

# %% [markdown]
# The assertion holds: because cells are independent, a *coarse* picture costs a sixteenth of this step and
# its values are final, not an approximation. That is how the dashboard paints first and refines later.
#
# ## When, not in which order
#
# A date carries its day of the year as a learned vector, and no position. So shuffling the dates changes
# nothing beyond rounding; forgetting the days does.

# %%
values, tokens, days = encoded["s2"]
order = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(0))
shuffled = {**encoded, "s2": (values[:, order], tokens[:, order], days[:, order])}
undated = {**encoded, "s2": (values, tokens, torch.zeros_like(days))}
for name, inputs in {"shuffled": shuffled, "unknown ": undated}.items():
    with torch.inference_mode():
        change = (model.fuse(inputs, step=4, offset=(2, 2)) - sparse).abs().max()
    print(f"{name} dates change the features by at most {float(change):.6f}")

# %% [markdown]
# ## The picture
#
# Vectors are shown as colours: the three directions in which they vary most.


# %%
def three(features: torch.Tensor) -> torch.Tensor:
    """(c, h, w) → (h, w, 3): the first three principal components, stretched to 0..1."""
    flat = features.flatten(1).T.double()
    flat = flat - flat.mean(0)
    scores = flat @ torch.linalg.svd(flat, full_matrices=False)[2][:3].T
    low, high = scores.quantile(torch.tensor([0.02, 0.98]).double(), dim=0)
    return ((scores - low) / (high - low)).clip(0, 1).reshape(*features.shape[1:], 3)


panels = {
    "1. photograph, 0.3 m": batch.sensors["hr"].pixels[0, 0, :, ::4, ::4].permute(1, 2, 0) / 255,
    "2. one Sentinel-2 date:\n40 m tokens": three(values[0, int(tokens[0].sum((1, 2)).argmax())]),
    "3. tokens in the sequence\nof each cell": length,
    "4. fused features, 10 m": three(fused[0]),
    "5. every fourth of them\neach way": three(sparse[0]),
}
figure, axes = plt.subplots(1, 5, figsize=(12.5, 3.1), layout="constrained")
for axis, (title, picture) in zip(axes, panels.items(), strict=True):
    image = axis.imshow(picture, cmap="viridis", interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()
    if picture.ndim == 2:
        figure.colorbar(image, ax=axis, orientation="horizontal", shrink=0.8, pad=0.02)
figure.supxlabel("SYNTHETIC scene · skysense-tiny, UNTRAINED random(seed=0)", fontsize=8)
plt.show()

# %% [markdown]
# Even random weights keep forest, river and fields apart in 2 and 5, because the input does. Picture 4
# holds the same numbers as 5 and fifteen times as many more. Its chequer is the sixteen sub-positions of a
# 40 m token: their random weights differ more than the land does, and only training makes them agree.
#
# ## What we learned
#
# * 640 m of ground: 2,048² photograph pixels, 64² Sentinel pixels, 16² Sentinel tokens, 64² features.
# * Dates meet only in fusion, and there each 10 m cell is on its own.
# * Two exact savings follow: folding two linear layers, and computing only the cells one needs.
#
# ## Exercises
#
# 1. Mark one Sentinel-2 date as unusable everywhere (a copy of `tokens` with `[:, 0] = False`) and fuse. Then
#    leave that date out instead. Compare.
# 2. What is the feature of a cell that no sensor ever saw? Set all three `tokens` to False at one 40 m
#    square (and its 4 × 4 photograph cells).
# 3. Look at `skysense.model.PRESETS["paper"]`. How wide are the vectors at each stop above?
#
# <details><summary>Solutions</summary>
#
# 1. The two are equal up to rounding: an invalid token is not part of the sequence.
# 2. NaN in all its features: only the extra token is left, and a sequence that says nothing gives no
#    feature. All other cells keep their values.
# 3. Swin 2,816; ViT 1,024, raised to 2,816; fused 1,024.
#
# </details>
#
# *Where this lives:* `skysense/batch.py`, `skysense/model/skysense.py`, `skysense/model/fusion.py`.
