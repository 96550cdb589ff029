import pytest

from app import compute


@pytest.mark.parametrize(("pages", "gigabytes"), [(10_000_000, 20.48), (1_000, 4.0)])
def test_encoding_may_hold_half_of_the_memory_and_at_least_what_a_script_may(
    monkeypatch, pages, gigabytes
):
    sizes = {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(compute.os, "sysconf", sizes.__getitem__)
    assert compute.memory_budget() == pytest.approx(gigabytes)


def test_where_nobody_knows_the_memory_the_default_stands(monkeypatch):
    def unknown(_):
        raise ValueError

    monkeypatch.setattr(compute.os, "sysconf", unknown)
    assert compute.memory_budget() == 4.0
