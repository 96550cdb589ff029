import contextlib
import io
import itertools
import pickle

import numpy as np
import pytest
import requests
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pystac_client.exceptions import APIError
from stac_scenes import write_cog
from stac_server import FileServer

from skysense.errors import SourceError
from skysense.sources import catalogue, net
from skysense.sources.access import Access, Limits, Signer
from skysense.sources.catalogue import Catalogue
from skysense.sources.net import ReadError, fault_of, read_remote

PATIENT = settings(deadline=None)  # other work may share the processor
SHORT = Limits(total=4, connect=1, request=0.5, retries=1, delay=0.02, attempts=3)
PIXELS = np.random.default_rng(0).integers(1, 9000, (256, 256)).astype("u2")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    write_cog(root / "a.tif", PIXELS, Affine(10, 0, 500000, 0, -10, 5630000), "EPSG:32631", 0)
    (root / "vrt.tif").write_text(
        '<VRTDataset rasterXSize="256" rasterYSize="256"><VRTRasterBand dataType="UInt16" band="1">'
        f"<SimpleSource><SourceFilename>{root}/a.tif</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    (root / "page.tif").write_text("<html>sign in</html>")
    made = FileServer(root)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def healthy(server):
    """No fault left over from another test."""
    server.faults.clear()
    server.always.clear()
    server.pages.clear()
    server.token, server.slow = "", 0.0


NUMBERS = itertools.count()


@pytest.fixture
def fresh(server):
    """A new address for the same image, since GDAL remembers what an address once answered."""
    name = f"/{next(NUMBERS)}.tif"
    (server.root / name[1:]).symlink_to(server.root / "a.tif")
    return name


def read(server, path, limits=SHORT, **access):
    return read_remote(
        Access.to(server.url, limits=limits, **access),
        server.url + path,
        lambda file: file.read(1),
        "the image",
    )


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("count", [1, 5])
def test_an_overloaded_server_is_asked_again_and_gives_the_same_pixels(
    server, fresh, status, count
):
    server.faults[fresh] = [status] * count
    assert (read(server, fresh) == PIXELS).all()


@pytest.mark.parametrize("healthy", [0, 1, 2])
def test_a_body_cut_short_is_read_again_whichever_request_it_was(server, fresh, healthy):
    server.faults[fresh] = [None] * healthy + ["truncate", "truncate"]
    assert (read(server, fresh) == PIXELS).all()


@pytest.mark.parametrize("fault", ["truncate", "garbage", "no-range", "wrong-range"])
def test_broken_answers_never_become_pixels(server, fresh, fault):
    server.always[fresh] = fault
    pixels = None
    with contextlib.suppress(ReadError):
        pixels = read(server, fresh)
    assert pixels is None or (pixels == PIXELS).all()


def test_one_stall_is_survived(server, fresh):
    server.faults[fresh] = ["stall"]
    assert (read(server, fresh) == PIXELS).all()


@pytest.mark.timeout(10)
def test_a_server_that_stalls_for_good_is_given_up(server, fresh):
    server.always[fresh] = "stall"
    with pytest.raises(ReadError, match="stopped sending") as caught:
        read(server, fresh)
    assert caught.value.fault.server


@pytest.mark.parametrize("status", [404, 403, 401])
def test_a_refusal_is_not_repeated_blindly(server, fresh, status):
    server.faults[fresh] = [status] * 50
    with pytest.raises(ReadError, match=f"HTTP {status}"):
        read(server, fresh)
    assert len(server.faults[fresh]) == 49


def test_an_expired_permit_is_renewed_once(server, fresh):
    server.token = "new"
    tokens = []
    signer = Signer(lambda href: f"{href}?token={'new' if tokens else 'old'}", tokens.append)
    assert (read(server, fresh, signer=signer) == PIXELS).all()
    assert tokens == [f"{server.url}{fresh}?token=old"]


def test_a_permit_that_stays_refused_ends_after_one_renewal(server, fresh):
    server.token = "right"
    renewed = []
    signer = Signer(lambda href: f"{href}?token=wrong{len(renewed)}", renewed.append)
    with pytest.raises(ReadError, match="HTTP 403") as caught:
        read(server, fresh, signer=signer)
    assert len(renewed) == 1
    assert "token" not in str(caught.value), "a permit must not be shown"


@pytest.mark.parametrize("path", ["/vrt.tif", "/page.tif"])
def test_only_geotiffs_are_opened_whatever_the_name_says(server, path):
    with pytest.raises(ReadError, match="not a GeoTIFF"):
        read(server, path)


def test_an_unreachable_server_is_named():
    access = Access.to("http://127.0.0.1:9", limits=SHORT)
    with pytest.raises(ReadError, match=r"127\.0\.0\.1:9: the server cannot be reached"):
        read_remote(access, "http://127.0.0.1:9/a.tif", lambda f: f.read(1), "the image")


def test_a_read_error_survives_the_way_between_processes():
    error = ReadError("sentence.", fault_of(ValueError("HTTP response code: 403")))
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "sentence."
    assert copy.fault == error.fault


REFUSED = [
    "file:///etc/passwd", "/etc/passwd", "/vsizip//vsicurl/http://x/a.zip/a.tif",
    "/vsicurl/http://images.example/a.tif", "vrt://https://images.example/a.tif",
    "<VRTDataset/>", "s3://bucket/a.tif", "ftp://images.example/a.tif", "", None, 7, b"x",
    "https://images.example@evil.example/a.tif", "https://user:pw@images.example/a.tif",
    "https://images.example:bad/a.tif", "https://images.example\\@evil.example/a.tif",
    "https://images.example/a b.tif", "https://images.example/a.tif\n", "https:///a.tif",
    "https://[::1/a.tif", "https://images.example.evil.example/a.tif",
    "https://evilimages.example/a.tif", "http://images.example/a.tif",
    "https://images.example:8443/a.tif", "https://127.0.0.1/a.tif", "https://localhost/a.tif",
    "http://169.254.169.254/latest/meta-data", "http://[fe80::1]/a", "http://[::ffff:a9fe:a9fe]/a",
    "https://0.0.0.0/a.tif", "https://ima\u0261es.example/a.tif", "https://x/" + "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("href", REFUSED)
def test_addresses_off_the_list_are_refused(href):
    with pytest.raises(SourceError):
        Access.to("https://images.example/stac").check(href)


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "[fe80::1]", "metadata.google.internal", "100.100.100.200", "0.0.0.0"],
)
def test_metadata_services_are_refused_even_if_they_are_listed(host):
    with pytest.raises(SourceError, match="no catalogue may be on"):
        Access.to("https://images.example", [f"http://{host}"])


@pytest.mark.parametrize(
    ("hosts", "href"),
    [
        ([], "https://images.example/deep/a.tif?sig=1"),
        ([], "https://IMAGES.example.:443/a.tif"),
        (["cdn.example"], "https://cdn.example/a.tif"),
        (["http://cdn.example:81"], "http://cdn.example:81/a.tif"),
        (["*.blob.core.windows.net"], "https://store.blob.core.windows.net/a.tif"),
    ],
)
def test_listed_hosts_are_allowed(hosts, href):
    assert Access.to("https://images.example/stac", hosts).check(href) == href


def test_a_star_stands_for_something_before_the_dot_only():
    access = Access.to("https://a.example", ["*.b.example"])
    assert not access.allows("https://evilb.example/x")
    assert not access.allows("https://b.example.evil/x")


@PATIENT
@given(st.text(max_size=60))
def test_no_text_breaks_the_check(text):
    access = Access.to("https://images.example/stac")
    with contextlib.suppress(SourceError):
        assert access.check(text).lower().startswith("https://images.example")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "3", None, True])
def test_a_timeout_that_is_no_time_is_refused(timeout):
    with pytest.raises(SourceError, match="timeout"):
        Limits.within(timeout)


@PATIENT
@given(st.floats(0.5, 1e4))
def test_a_stalled_request_with_all_its_repeats_fits_into_the_time_given(total):
    limits = Limits.within(total)
    waits = sum(limits.delay * 2**k for k in range(limits.retries))
    assert (limits.retries + 1) * limits.request + waits <= total


def test_gdal_is_told_to_end_to_repeat_and_not_to_look_around():
    told = Limits().gdal()
    assert float(told["GDAL_HTTP_TIMEOUT"]) == 30
    assert int(told["GDAL_HTTP_MAX_RETRY"]) > 0
    assert told["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"


def ask(server, path="/page", limits=SHORT, **kwargs):
    return Catalogue(Access.to(server.url, limits=limits, **kwargs)).read_text(server.url + path)


@pytest.mark.parametrize("fault", [429, 500, 503, "stall", "truncate"])
def test_a_catalogue_is_asked_again(server, fault):
    server.pages["/page"] = b'{"answer": 42}'
    server.faults["/page"] = [fault] * 2
    assert ask(server) == '{"answer": 42}'


def test_waiting_as_long_as_the_server_asks():
    response = requests.Response()
    response.headers["Retry-After"] = "7"
    assert catalogue._retry_after(response) == 7
    response = requests.Response()
    response.raw = io.BytesIO(b'{"message": "Rate limit is exceeded. Try again in 23 seconds."}')
    assert catalogue._retry_after(response) == 23


@pytest.mark.timeout(20)
def test_a_catalogue_that_drips_is_given_up_in_time(server):
    server.pages["/page"] = b" " * 10_000
    server.slow = 0.05
    with pytest.raises(APIError, match=r"within|still sending"):
        ask(server, limits=Limits(total=1, connect=1, request=0.5, delay=0.01))


def test_a_catalogue_may_not_redirect_to_another_host(server):
    server.faults["/page"] = ["redirect:http://169.254.169.254/latest/meta-data"]
    with pytest.raises(APIError, match="no catalogue may be on"):
        ask(server)
    server.faults["/page"] = [f"redirect:{server.url.replace('127.0.0.1', 'localhost')}/page"]
    with pytest.raises(APIError, match="allow_hosts"):
        ask(server)


@pytest.mark.parametrize("path", ["/etc/hostname", "file:///etc/hostname"])
def test_a_catalogue_page_is_never_a_local_file(server, path):
    with pytest.raises(SourceError):
        Catalogue(Access.to(server.url)).read_text(path)


def test_an_answer_too_large_to_be_a_catalogue_is_refused(server, monkeypatch):
    monkeypatch.setattr(catalogue, "MAX_PAGE", 1000)
    server.pages["/page"] = b" " * 5000
    with pytest.raises(APIError, match="over 0 MB"):
        ask(server)


def test_planetary_computer_permits_come_from_its_own_library(monkeypatch):
    from planetary_computer import sas

    asked = []

    class Token:
        def sign(self, href):
            return type("Signed", (), {"href": f"{href}?sig=abc"})

    monkeypatch.setattr(sas, "get_token", lambda *names: asked.append(names) or Token())
    href = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/06/a.tif"
    assert net.sign_planetary_computer(href) == f"{href}?sig=abc"
    assert asked == [("sentinel2l2a01", "sentinel2-l2")]


def test_a_refused_permit_is_a_sentence_without_the_address_of_the_permit(monkeypatch):
    from planetary_computer import sas

    def refuse(*names):
        raise requests.HTTPError("429 for url: https://x/token?key=secret")

    monkeypatch.setattr(sas, "get_token", refuse)
    with pytest.raises(SourceError, match="no reading permit") as caught:
        net.sign_planetary_computer("https://a.blob.core.windows.net/b/c.tif")
    assert "secret" not in str(caught.value)


def test_only_the_refused_permit_is_forgotten(monkeypatch):
    """Eight readers may be refused at once; the first renewal must serve them all."""
    from planetary_computer import sas

    refused, renewed = (type("Token", (), {"token": f"sig={name}"}) for name in ("old", "new"))
    monkeypatch.setattr(sas, "TOKEN_CACHE", {"a": refused, "b": renewed})
    net.forget_planetary_computer("https://x.blob.core.windows.net/a.tif?sig=old")
    assert {"b": renewed} == sas.TOKEN_CACHE


def test_no_permit_is_a_read_error_that_ends_the_reading_of_that_server(server, fresh):
    def refuse(href):
        raise SourceError("no permit today.")

    with pytest.raises(ReadError, match="no permit today") as caught:
        read(server, fresh, signer=Signer(refuse, lambda url: None))
    assert caught.value.fault.server
