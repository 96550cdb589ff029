"""The equations of learning in plain loops, in float64, and random features to try them on."""

import math

import torch

from skysense.pretrain.heads import FUSED, HeadConfig, Heads
from skysense.pretrain.losses import Setting
from skysense.pretrain.terms import Features, LossConfig, Seen

DIMS = {"hr": 5, "s2": 6, "s1": 4, FUSED: 7}
SIZES = HeadConfig(hidden=9, out=8, prototypes=10)
CONFIG = LossConfig(clusters=3, alignment_positions=4)
WARM = 0.06


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(seed=0):
    return Heads(DIMS, SIZES, torch.Generator().manual_seed(seed)).double()


def seen(key, seed, b=4, t=2, m=6, share=0.8):
    """Random features; weights depend on the sensor alone, so that both views have the same."""
    days = () if key == FUSED else (t,)
    weight = random(b, *days, m, seed=100 + len(key) + ord(key[-1])) < share
    d = DIMS[key]
    return Seen(random(b, *days, m, d, seed=seed), weight, random(b, *days, d, seed=seed + 50),
                weight.any(-1))  # fmt: skip


def views(keys=("hr", "s2", "s1", FUSED), **options):
    u = Features({key: seen(key, i, **options) for i, key in enumerate(keys)})
    v = Features({key: seen(key, 10 + i, **options) for i, key in enumerate(keys)})
    return u, v


def setting(config=CONFIG):
    return Setting(heads(1), heads(2), config, WARM)


def changed(features, change):
    return Features({k: change(p) for k, p in features.parts.items()}, features.place)


def plain_sinkhorn(cosines, epsilon, iterations):
    q = [[math.exp(float(c) / epsilon) for c in row] for row in cosines]
    for _ in range(iterations):
        columns = [sum(row[k] for row in q) for k in range(len(q[0]))]
        q = [[x / c for x, c in zip(row, columns, strict=True)] for row in q]
        q = [[x / sum(row) for x in row] for row in q]
    return torch.tensor(q, dtype=torch.float64)


def plain_contrast(cosines, target, temperature):
    exps = [math.exp(float(c) / temperature) for c in cosines]
    return -sum(float(t) * math.log(e / sum(exps)) for t, e in zip(target, exps, strict=True))


def plain_rows(mine, theirs, pair, config):
    """Mean of L_CL over rows already chosen."""
    target = plain_sinkhorn(pair[1](torch.stack(theirs)).detach(), WARM, config.iterations)
    cosines = pair[0](torch.stack(mine)).detach()
    each = [plain_contrast(c, t, config.temperature) for c, t in zip(cosines, target, strict=True)]
    return sum(each) / len(each)


def plain_clusters(x, count, epsilon, iterations):
    """Memberships of the pixels of one image."""
    x = x - x.mean(0)
    lengths = [float(row.norm()) for row in x]
    x = torch.stack([row / row.norm() for row in x])
    taken = [lengths.index(max(lengths))]
    while len(taken) < count:
        nearest = [max(float(row @ x[i]) for i in taken) for row in x]
        taken.append(nearest.index(min(nearest)))
    centres = x[taken]
    for _ in range(2):
        s = plain_sinkhorn(x @ centres.T, epsilon, iterations)
        centres = torch.stack([sum(s[j, c] * x[j] for j in range(len(x))) for c in range(count)])
        centres = torch.stack([c / c.norm() for c in centres])
    return s


def images(part):
    """Pixels and weights of every image, and its mean, one after the other."""
    d = part.values.shape[-1]
    m = part.weight.shape[-1]
    return (
        part.values.reshape(-1, m, d),
        part.weight.reshape(-1, m),
        part.image.reshape(-1, d),
        part.image_weight.reshape(-1),
    )


def plain_fine_grained(key, u, v, by):
    """L_pix, L_obj and L_img of one sensor."""
    pix, obj, img = ([], []), ([], []), ([], [])
    for (x, weight, mean, some), (y, _, other, _) in zip(
        zip(*images(u), strict=True), zip(*images(v), strict=True), strict=True
    ):
        for j in range(len(weight)):
            if weight[j]:
                pix[0].append(x[j] - x[weight].mean(0))
                pix[1].append(y[j] - y[weight].mean(0))
        if some:
            img[0].append(mean)
            img[1].append(other)
        if weight.any():
            c = by.config.clusters
            s = plain_clusters(y[weight], c, by.config.cluster_epsilon, by.config.iterations)
            for k in range(c):
                for side, of in zip(obj, (x[weight], y[weight]), strict=True):
                    side.append(sum(s[j, k] * of[j] for j in range(len(of))) / s[:, k].sum())
    out = {}
    for name, rows in (("pixel", pix), ("object", obj), ("image", img)):
        pair = by.student.head(key, name), by.teacher.head(key, name)
        out[name] = plain_rows(*rows, pair, by.config)
    return out


def plain_alignment(u, projectors, config):
    """Sum over ordered pairs of sensors of the mean InfoNCE."""
    spots = torch.linspace(0, 5, config.alignment_positions).round().long().tolist()
    z = {}
    for key, part in u.parts.items():
        if key != FUSED:
            for b in range(len(part.values)):
                for j in spots:
                    days = part.values[b, :, j][part.weight[b, :, j]]
                    if len(days):
                        z[key, b, j] = projectors.projector(key)(days.mean(0)).detach()
    out = {}
    keys = [k for k in u.parts if k != FUSED]
    for one in keys:
        for two in keys:
            if one == two:
                continue
            each = []
            for (key, b, j), a in z.items():
                if key != one or (two, b, j) not in z:
                    continue
                far = [c for (k, other, _), c in z.items() if k == two and other != b]
                if far:
                    own = float(a @ z[two, b, j]) / config.alignment_temperature
                    all_of = [own] + [float(a @ c) / config.alignment_temperature for c in far]
                    each.append(math.log(sum(math.exp(x) for x in all_of)) - own)
            out[f"align/{one}-{two}"] = sum(each) / len(each)
    return out
