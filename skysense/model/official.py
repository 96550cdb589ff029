"""How official checkpoints name their contents: forms, prefixes, and what else they may hold."""

import re
from collections.abc import Mapping

from skysense.errors import WeightsError

#: What precedes the keys of each part in a one-file checkpoint.
PREFIXES = {
    "backbone_gep.": "hr",
    "backbone_hr.": "hr",
    "backbone_s2.": "s2",
    "backbone_s1.": "s1",
    "head_s2.": "head_s2",
    "head_s1.": "head_s1",
    "fusion.": "fusion",
}
CALENDAR_KEY = "ctpe"
#: Keys of the high-resolution part that a file may hold and this model does not use: norms of
#: earlier stages, a pre-training token, and buffers that are computed anew.
UNUSED = re.compile(
    r"norm[012]\.(weight|bias)|mask_token"
    r"|stages\.\d+\.blocks\.\d+\.attn\.w_msa\.relative_(coords_table|position_index)"
)
#: Keys that only SkySense++ has.
PLUS_PLUS = re.compile(r"(^|\.)(modality_vae|vocabulary_token|vocabulary_weight|head_rec_hr)(\.|$)")


def split(
    name: str, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, dict[str, str]], str, list[str]]:
    """Sort the keys of one checkpoint file into parts of the model.

    Args:
        name: The file's name; tells the two up-sampling heads apart, whose keys are the same.
        shapes: Shape of each tensor in the file.

    Returns:
        For each part its official keys (without prefix) and the file's key for each; a phrase on
        what the file holds; keys left aside, with the reason.

    Raises:
        WeightsError: The file holds something else, or it is not clear what.
    """
    if plus := next((k for k in shapes if PLUS_PLUS.search(k)), None):
        raise WeightsError(
            f"{name} holds SkySense++ weights ({plus}). That model has parts which SkySense V1 has "
            "not; using the rest of it would give other features under the same name. Give the V1 "
            "files."
        )
    renamed = {_official(k): k for k in shapes}
    if len(renamed) < len(shapes):
        raise WeightsError(f"{name} holds one key twice, with and without `module.`.")
    if any(k.startswith(tuple(PREFIXES)) for k in renamed):
        parts, extra = _split_prefixed(name, renamed)
        return parts, f"one-file form with {', '.join(sorted(parts))}", extra
    parts, holds = _split_plain(name, renamed, shapes)
    return parts, holds, []


def _official(key: str) -> str:
    """A key without wrapper prefix, with joint projections under their v1 name."""
    key = key.removeprefix("module.")
    return key.replace(".attn.attn.Wqkv.", ".attn.attn.in_proj_")


def _split_prefixed(
    name: str, renamed: dict[str, str]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Sort the keys of a one-file checkpoint into parts, and those left aside."""
    parts: dict[str, dict[str, str]] = {}
    extra: list[str] = []
    used: dict[str, str] = {}
    for key, raw in renamed.items():
        prefix = next((p for p in PREFIXES if key.startswith(p)), None)
        if prefix is not None:
            part = PREFIXES[prefix]
            if used.setdefault(part, prefix) != prefix:
                raise WeightsError(
                    f"{name} holds the part {part} under both {used[part]} and {prefix}; it is "
                    "not clear which is meant."
                )
            parts.setdefault(part, {})[key.removeprefix(prefix)] = raw
        elif key == CALENDAR_KEY:
            parts["calendar"] = {CALENDAR_KEY: raw}
        elif key.startswith("head"):
            extra.append(f"{raw} (a pre-training head)")
        else:
            raise WeightsError(
                f"{name} holds {raw!r}, which belongs to no part of SkySense V1 (prefixes "
                f"known: {', '.join(PREFIXES)})."
            )
    return parts, extra


def _split_plain(
    name: str, renamed: dict[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, dict[str, str]], str]:
    """Tell which part a file is by its keys, and describe it."""
    parts: dict[str, dict[str, str]] = {}
    keys = dict(renamed)
    if CALENDAR_KEY in keys:
        parts["calendar"] = {CALENDAR_KEY: keys.pop(CALENDAR_KEY)}
    remark = ""
    if any(k.startswith("backbone.") for k in keys):
        stray = [k for k in keys if not k.startswith("backbone.")]
        if stray:
            raise WeightsError(
                f"Some keys of {name} start with `backbone.` and others do not "
                f"({', '.join(stray[:5])}); it is not clear what it holds."
            )
        keys = {k.removeprefix("backbone."): raw for k, raw in keys.items()}
        remark = ", with the prefix `backbone.`"
    part = _guess(name, keys, shapes)
    parts[part] = keys
    return parts, f"{part}{remark}{' and the calendar' if 'calendar' in parts else ''}"


def _guess(name: str, keys: dict[str, str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The part that keys belong to."""
    if any(k.startswith("stages.") for k in keys):
        return "hr"
    if any(k.startswith("porj_linear.") for k in keys):
        return "fusion"
    if "patch_embed.projection.weight" in keys:
        shape = shapes[keys["patch_embed.projection.weight"]]
        bands = shape[1] if len(shape) == 4 else None
        if bands in (10, 2):
            return "s2" if bands == 10 else "s1"
        raise WeightsError(
            f"patch_embed.projection.weight in {name} has shape {list(shape)}; the Sentinel-2 "
            "encoder reads 10 bands and the Sentinel-1 encoder 2."
        )
    if any(k.startswith("decoder.") for k in keys):
        named = [p for p in ("s2", "s1") if p in name.lower()]
        if len(named) == 1:
            return f"head_{named[0]}"
        raise WeightsError(
            f"{name} holds an up-sampling head, and the heads of both sensors look alike; name "
            "the file ..._head_s2.pth or ..._head_s1.pth."
        )
    raise WeightsError(
        f"{name} holds no part of SkySense V1 that is recognised; its first keys are "
        f"{', '.join(list(keys)[:5]) or 'none'}."
    )
