"""The official names of parameters, and ours.

Inside each part, an official state-dict key and ours differ by the replacements below, and by
nothing else; shapes are equal. Applied in the order given, from ours to official:
"""

#: For each part: (ours, official) pieces of a key.
NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "hr": (
        ("patch_norm.", "patch_embed.norm."),
        ("patch.", "patch_embed.projection."),
        ("norms.", "norm"),
        (".attn.", ".attn.w_msa."),
        (".mlp.fc1.", ".ffn.layers.0.0."),
        (".mlp.fc2.", ".ffn.layers.1."),
    ),
    "s2": (
        ("patch.", "patch_embed.projection."),
        (".attn.qkv.", ".attn.attn.in_proj_"),
        (".attn.proj.", ".attn.attn.out_proj."),
        (".mlp.fc1.", ".ffn.layers.0.0."),
        (".mlp.fc2.", ".ffn.layers.1."),
    ),
    "head_s2": (("conv.", "decoder.0."),),
    "fusion": (
        ("input.", "porj_linear."),  # the original's own spelling
        (".attn.qkv.", ".attn.attn.in_proj_"),
        (".attn.proj.", ".attn.attn.out_proj."),
        (".mlp.fc1.", ".ffn.layers.0.0."),
        (".mlp.fc2.", ".ffn.layers.1."),
    ),
    "calendar": (("table", "ctpe"),),
}
NAMES["s1"] = NAMES["s2"]
NAMES["head_s1"] = NAMES["head_s2"]


def to_official(part: str, key: str) -> str:
    """The official key, inside its part, of one of our parameters.

    Example: `to_official("s2", "layers.0.attn.qkv.weight")` is
    `"layers.0.attn.attn.in_proj_weight"`.
    """
    for ours, official in NAMES[part]:
        if ours.startswith("."):
            key = key.replace(ours, official)
        elif key.startswith(ours):
            key = official + key[len(ours) :]
    return key
