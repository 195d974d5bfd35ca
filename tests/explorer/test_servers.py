"""`make lab` and `make voila` as a user starts them: on this machine only, and for whoever has the token only."""

import http.client
import json
import os
import re
import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from benchmarks import explorer as benchmark
from jsigr_lib.store.paths import ROOT

pytestmark = pytest.mark.slow
PAGES = {
    "lab": [
        *("/", "/lab", "/lab/tree/notebooks/explorer.ipynb", "/tree", "/files/notebooks/explorer.ipynb", "/metrics"),
        *("/api/contents", "/api/kernels", "/api/sessions", "/api/terminals", "/api/kernelspecs", "/api/config/x"),
        *("/nbconvert/html/notebooks/explorer.ipynb", "/lab/api/settings", "/lab/api/workspaces", "/api/me"),
    ],
    "voila": ["/", "/voila/files/Makefile", "/api/kernels", "/api/kernels/x", "/voila/render/notebooks/explorer.ipynb"],
}
CHANNELS = "/api/kernels/00000000-0000-0000-0000-000000000000/channels"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def ask(url: str, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    """Status, where it leads, and what is said."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location", ""), answer.read(200_000)
    finally:
        connection.close()


def refused(answer: tuple[int, str, bytes]) -> bool:
    """Nothing but a way to the login page, or a plain no."""
    status, location, _ = answer
    return status in (401, 403, 404, 405) or (status == 302 and urlsplit(location).path.startswith(("/login", "/lab")))


@pytest.fixture(scope="module", params=["lab", "voila"])
def server(request, served) -> tuple[str, str, Path, str]:
    """Its target, its address, its folder and its token."""
    return request.param, *served(request.param)


def test_it_listens_on_this_machine_only(server):
    _, url, folder, _ = server
    port, found = urlsplit(url).port, []
    for process in benchmark.processes({"IPYTHONDIR": str(folder / "ipython")}):
        try:
            found += [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
        except psutil.Error:
            continue  # it has just ended
    assert port in {one.laddr.port for one in found}
    assert {one.laddr.ip for one in found} <= {"127.0.0.1", "::1"}
    others = {address.address for all_ in psutil.net_if_addrs().values() for address in all_ if address.family == 2}
    for address in others - {"127.0.0.1"}:
        with pytest.raises(OSError), socket.create_connection((address, port), timeout=2):
            pass


def test_without_the_token_there_is_nothing(server):
    target, url, *_ = server
    answers = {path: ask(url, path) for path in PAGES[target]}
    assert {path: answer[:2] for path, answer in answers.items() if not refused(answer)} == {}
    assert not any(b"SaliencyExplorer" in said for *_, said in answers.values())


@pytest.mark.parametrize(
    "headers", [{"Authorization": "token wrong"}, {"Authorization": "Bearer x"}, {"Cookie": "a=b"}]
)
def test_with_another_token_there_is_nothing(server, headers):
    _, url, *_ = server
    for path in ("/", "/api/kernels", "/?token=wrong", "/api/kernels?token="):
        assert refused(ask(url, path, **headers))


def test_a_kernel_cannot_be_started_or_reached(server):
    _, url, *_ = server
    before = len(psutil.Process().children(recursive=True))
    assert refused(ask(url, "/api/kernels", method="POST"))
    assert refused(ask(url, CHANNELS, **UPGRADE))
    assert refused(ask(url, CHANNELS, **UPGRADE, Origin="http://evil.example"))
    assert len(psutil.Process().children(recursive=True)) <= before


def test_the_servers_own_token_opens_it_and_no_page_of_elsewhere(server):
    """A page of another site has no token: a browser keeps it for this address alone. (JupyterLab refuses the names of
    other machines besides, Voila only their channels.)"""
    target, url, _, token = server
    path = {"lab": "/api/kernels", "voila": "/"}[target]
    token = {"Authorization": f"token {token}"}
    assert ask(url, path, **token)[0] == 200
    assert ask(url, path, **token, Host="evil.example")[0] == 403 or target == "voila"
    assert refused(ask(url, path, Host="evil.example"))
    assert ask(url, CHANNELS, **token, **UPGRADE, Origin="http://evil.example")[0] in (403, 404)


def test_a_page_of_elsewhere_cannot_use_the_cookie_of_a_browser(server):
    target, url, _, token = server
    where, sent = urlsplit(url), {"Authorization": f"token {token}"}
    with closing(http.client.HTTPConnection(where.hostname, where.port, timeout=60)) as connection:
        connection.request("GET", f"/{'lab' if target == 'lab' else ''}?token={token}")
        answer = connection.getresponse()
        cookie, said = answer.headers.get_all("Set-Cookie"), answer.read().decode()
    cookie = "; ".join(one.partition(";")[0] for one in cookie)
    if target == "lab":
        kernel = json.loads(ask(url, "/api/kernels", method="POST", **sent)[2])["id"]
        for origin in ({"Origin": "http://evil.example"}, {}):
            assert refused(ask(url, "/api/kernels", method="POST", Cookie=cookie, **origin))
    else:
        kernel = re.search(r'"kernelId": "([\w-]+)"', said)[1]
    for origin, status in (("http://evil.example", 403), (f"http://{where.netloc}", 101)):
        assert ask(url, f"/api/kernels/{kernel}/channels", Cookie=cookie, **UPGRADE, Origin=origin)[0] == status


def test_jupyterlab_asks_for_no_news(served):
    url, _, token = served("lab")
    page = ask(url, "/lab", Authorization=f"token {token}")[2].decode()
    assert "@jupyterlab/apputils-extension:announcements" in re.search(r'"disabledExtensions": (\[.*?\])', page)[1]


def test_the_targets_say_so():
    """What no argument of ours undoes: the address, that there is a token, and that no other configuration is read."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    lab, voila = (re.search(rf"^{target}:.*?(?=^\S)", text, re.M | re.S)[0] for target in ("lab", "voila"))
    assert all("$(OWN_JUPYTER)" in target for target in (lab, voila)) and "JUPYTER_NO_CONFIG=1" in text
    assert "--ip=127.0.0.1" in lab and "--Voila.ip=127.0.0.1" in voila and "--token " in voila
    for unsafe in ("0.0.0.0", "token=''", 'token=""', "disable_check_xsrf", "allow_origin", "allow_remote_access"):
        assert unsafe not in text
    for path in (ROOT / "jsigr_lib" / "explorer" / "front").rglob("*.json"):
        assert not re.search("token|password|allow_|0\\.0\\.0\\.0", path.read_text(encoding="utf-8"))
    assert os.environ.get("JUPYTER_TOKEN") is None
