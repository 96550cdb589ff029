"""Several places in one session: chips, one bank for all, comparisons and what there is."""

import json

import numpy as np
import pytest

from app.comparing import verdict
from app.panes.compare import verdict_markup
from app.panes.prototypes import atlas_rows
from skysense import analysis, view
from skysense.dates import Dates

EVIL = "<img src=x onerror=alert(1)>"
YEAR = ("2023-01-01", "2023-12-31")


@pytest.fixture
def both(encoded):
    """Two encoded places, the second one shown, with the panel of prototypes open."""
    encoded.flow.banks.show()
    encoded.open(1).encode()
    return encoded


def test_every_opened_place_has_a_chip_in_a_colour_of_its_own(both):
    first, second = both.state.opened
    assert [first.place, second.place] == both.state.places
    assert first.colour != second.colour
    assert both.flow.regions.colours() == {"Small 1": first.colour, "Small 2": second.colour}


def test_a_chip_says_how_its_place_stands(visit):
    visit.open()
    visit.state.dates = Dates(s2=6)
    regions = visit.flow.regions
    assert regions.standing(visit.state.place) == "not yet"
    visit.flow.encode()
    assert regions.standing(visit.state.place) == "working"
    visit.settle()
    assert regions.standing(visit.state.place) == "encoded"
    visit.state.dates = Dates(s2=5)
    assert regions.standing(visit.state.place) == "not yet"


def test_closing_the_chip_that_is_shown_opens_its_neighbour(both):
    both.flow.regions.close("small2")
    both.settle()
    assert both.state.place.key == "small1"
    assert [each.place.key for each in both.state.opened] == ["small1"]
    assert both.state.features is not None


def test_the_last_chip_cannot_be_closed(encoded):
    encoded.flow.regions.close("small1")
    assert len(encoded.state.opened) == 1


def test_a_colour_is_free_again_once_its_chip_is_closed(both):
    mine = both.state.opened[0].colour
    both.flow.regions.close("small1")
    both.open(0)
    assert both.state.opened[1].colour == mine


def test_every_place_is_assigned_to_the_bank_of_the_first(encoded):
    bank = encoded.state.bank
    assert bank.attrs["fitted_on"] == ["Small 1"]
    encoded.open(1).encode()
    assert encoded.state.bank is bank
    np.testing.assert_array_equal(
        encoded.state.fields["prototypes"], analysis.assign(encoded.state.features, bank)
    )
    assert encoded.flow.banks.sentence() == (
        "8 prototypes fitted on Small 1; Small 2 assigned to the same bank."
    )


def test_a_bank_can_be_fitted_on_all_places(both):
    before = analysis.bank_digest(both.state.bank)
    both.flow.banks.fit()
    both.settle()
    assert both.state.bank.attrs["fitted_on"] == ["Small 1", "Small 2"]
    assert analysis.bank_digest(both.state.bank) != before
    kept = both.state.bank
    assert both.open(0).state.bank is kept


def test_another_number_of_prototypes_is_fitted_on_the_same_places(both):
    both.flow.banks.refit(5)
    both.settle()
    assert both.state.bank.attrs["fitted_on"] == ["Small 1"]
    assert both.state.bank.sizes["prototype"] == 5


def test_places_that_are_not_encoded_alike_are_named(both):
    both.state.dates = Dates(s2=7)
    both.encode()
    assert both.flow.banks.apart().startswith("Small 1: not encoded with Spectral baseline")


def test_a_name_stays_with_its_prototype_in_every_place(both):
    both.flow.banks.rename(2, EVIL)
    assert both.state.fields["prototypes"].attrs["categories"][2] == EVIL[:40]
    both.open(0)
    assert both.state.fields["prototypes"].attrs["categories"][2] == EVIL[:40]


def test_a_name_that_is_taken_is_refused_in_the_panel(both):
    both.flow.banks.rename(2, "prototype 1")
    assert "already" in both.state.status("bank").sentence


def test_a_bank_that_was_kept_comes_back_with_its_names(both, compute, jobs, small_places):
    both.flow.banks.rename(0, "water")
    kept = both.flow.banks.text()
    both.flow.banks.refit(6)
    both.settle()
    both.flow.banks.load(kept.encode())
    both.settle()
    assert analysis.bank_text(both.state.bank) == kept
    assert both.state.fields["prototypes"].attrs["categories"][0] == "water"
    assert both.state.prototypes == 8
    assert analysis.bank_text(both.open(0).state.bank) == kept


def test_a_bank_of_another_encoder_is_refused_with_a_sentence(both):
    found = json.loads(both.flow.banks.text())
    found["attrs"]["encoder"] = "skysense-v1"
    before = both.state.bank
    both.flow.banks.load(json.dumps(found).encode())
    both.settle()
    assert "same encoder" in both.state.status("bank").sentence
    assert both.state.bank is before
    assert both.state.status("prototypes").kind == "ready"


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 9])
def test_what_is_no_bank_file_is_refused_with_a_sentence(both, content):
    both.flow.banks.load(content)
    both.settle()
    assert "not a bank file" in both.state.status("bank").sentence


def test_the_atlas_tells_of_every_encoded_place(both):
    found = both.state.atlas
    assert list(found.table["region"].values) == ["Small 1", "Small 2"]
    assert found.digest == analysis.bank_digest(both.state.bank)
    assert found.chips.png.startswith(b"\x89PNG")


def test_rows_of_the_atlas_are_ordered_by_the_place_that_is_shown(both):
    names = analysis.names_of(both.state.bank)
    field = both.state.fields["prototypes"]
    colours = both.flow.regions.colours()
    rows = atlas_rows(field, names, both.state.atlas, colours, "Small 2")
    shares = [float(row["note"].rstrip("%")) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert [bar["colour"] for bar in rows[0]["bars"]] == list(colours.values())
    assert rows[0]["colour"] == view.PALETTE[rows[0]["number"]]
    assert len(rows[0]["near"]) == 3
    assert rows[0]["count"] > 0


def test_before_the_atlas_is_there_rows_show_the_place_alone(both):
    field, names = both.state.fields["prototypes"], analysis.names_of(both.state.bank)
    rows = atlas_rows(field, names, None, {}, "Small 2")
    assert [bar["name"] for bar in rows[0]["bars"]] == ["Small 2"]
    assert rows[0]["near"] == []


# --- comparing ------------------------------------------------------------------------------


@pytest.fixture
def compared(both):
    both.flow.comparing.compare(["Small 1", "Small 2"])
    both.settle()
    return both


def test_places_are_compared_through_the_bank_that_is_shown(compared):
    found = compared.state.comparison
    assert found.prototypes == tuple(analysis.names_of(compared.state.bank))
    expected = analysis.usage(compared.state.fields["prototypes"]).values
    np.testing.assert_allclose(found.usage.sel(region="Small 2"), expected)
    assert compared.state.pair == ("Small 1", "Small 2")


def test_a_payer_shows_its_cells_and_lets_go_again(compared):
    number = int(compared.state.comparison.payers("Small 1", "Small 2")["prototype"][0])
    compared.flow.comparing.show_prototype(number)
    cells = compared.state.fields["prototypes"].values == number
    chosen = compared.state.selection
    assert (chosen == cells).all() if cells.any() else chosen is None
    assert compared.state.top == "prototypes"
    compared.flow.comparing.show_prototype(number)
    assert compared.state.selection is None


def test_another_bank_forgets_what_was_compared_through_the_one_before(compared):
    compared.flow.banks.refit(6)
    compared.settle()
    assert compared.state.comparison is None


def test_renaming_keeps_the_comparison_and_changes_its_names(compared):
    compared.flow.banks.rename(0, "water")
    assert compared.state.comparison.prototypes[0] == "water"


def test_a_place_of_one_year_has_no_other_and_a_sentence_says_so(compared):
    compared.flow.comparing.other_year(["Small 1", "Small 2"])
    compared.settle()
    assert "no two years" in compared.state.status("years").sentence
    assert compared.state.years == {}


def test_the_verdict_names_its_largest_control_and_can_be_changed_by_another_year(compared):
    found, pair = compared.state.comparison, ("Small 1", "Small 2")
    said = verdict(found, pair, {})
    assert "two halves of" in said
    years = {"Small 1": found}  # as if its years differed as much as the places do
    assert "cannot be told apart" in verdict(found, pair, years)


def test_a_season_mismatch_stands_beside_the_verdict_and_names_are_text(compared):
    found, pair = compared.state.comparison, ("Small 1", "Small 2")
    assert "Season mismatch: 34 days" in verdict_markup(found, pair, {}, 34.2, EVIL)
    assert "<img" not in verdict_markup(found, pair, {}, 34.2, EVIL)
    assert "Season" not in verdict_markup(found, pair, {}, 3.0, "")


@pytest.mark.parametrize("layer", ["colour", "features", "prototypes"])
def test_encoded_places_are_shown_side_by_side(both, layer):
    shown = []
    both.flow.regions.side_by_side(layer, shown.append)
    both.settle()
    (made,) = shown
    assert [each.name for each in made.pictures] == ["Small 1", "Small 2"]
    assert [each.colour for each in made.pictures] == list(both.flow.regions.colours().values())


def test_one_place_alone_is_not_put_side_by_side(encoded):
    encoded.flow.regions.side_by_side("features", pytest.fail)
    assert "second place" in encoded.state.status("side").sentence


# --- new places -----------------------------------------------------------------------------


def outlines(*wests):
    return json.dumps(
        {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "properties": {"name": f"Farm {i}"},
                    "geometry": {
                        "type": "Polygon",
                        "coordinates": [[[w, 50.8], [w + 0.002, 50.8], [w + 0.002, 50.802],
                                         [w, 50.802], [w, 50.8]]],
                    },
                }
                for i, w in enumerate(wests)
            ],
        }
    ).encode()  # fmt: skip


def test_every_outline_of_a_file_becomes_a_chip(visit, tmp_path):
    visit.open()
    regions = visit.flow.regions
    assert regions.add_file("../farms.geojson", outlines(3.0, 3.1), tmp_path, YEAR, "synthetic")
    visit.settle()
    assert visit.state.place.name == "Farm 0"
    assert [each.place.name for each in visit.state.opened] == ["Small 1", "Farm 0", "Farm 1"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("farms.shp", b"", "not a file of outlines"),
        ("farms.geojson", b"{", "cannot be opened"),
        ("farms.gpkg", b"x" * 50, "cannot be opened"),
        (EVIL + ".json", b"[]", "not an object"),
    ],
)
def test_a_file_without_outlines_is_refused_in_the_dialog(visit, tmp_path, name, content, words):
    visit.open()
    assert not visit.flow.regions.add_file(name, content, tmp_path, YEAR, "synthetic")
    said = visit.state.status("place").sentence
    assert words in said
    assert str(tmp_path) not in said
    assert len(visit.state.opened) == 1


def test_two_places_cannot_have_one_name(visit, small_places):
    visit.open()
    region = small_places[1].region
    visit.flow.add_region(region, "synthetic")
    visit.flow.add_region(region, "synthetic")
    assert [place.name for place in visit.state.places][-2:] == ["Small 2 2", "Small 2 3"]


def test_what_is_there_is_listed_before_anything_is_loaded(visit, small_places):
    visit.open()
    found = []
    visit.flow.regions.look(lambda: small_places[1].region, "synthetic", found.extend)
    visit.settle()
    assert {each.sensor for each in found} == {"s2", "s1"}
    assert sum(each.used for each in found if each.sensor == "s2") == 20
    assert visit.state.place == small_places[0]


def test_without_the_network_what_is_there_is_a_sentence(visit, small_places):
    visit.open()
    visit.flow.regions.look(lambda: small_places[1].region, "http://127.0.0.1:9/stac", pytest.fail)
    visit.settle()
    assert "127.0.0.1:9" in visit.state.status("place").sentence


def test_choosing_a_place_that_is_no_place_is_refused_before_a_search(visit):
    from app.places import typed_region

    visit.open()
    visit.flow.regions.look(lambda: typed_region("x", 640, YEAR, ""), "synthetic", pytest.fail)
    assert "not a place" in visit.state.status("place").sentence
