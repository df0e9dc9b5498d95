import os
import socket
from pathlib import Path

import pytest

from steelyard.kit.errors import Conflict
from steelyard.server.embedded.ports import claim_ports, is_free, name_holder
from steelyard.server.home import HomeLayout


def test_ports_differ_are_remembered_and_lie_below_the_ephemeral_range(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path)
    ports = claim_ports(layout, 0, workers=2)
    assert len(set(ports.values())) == len(ports) == 9
    assert all(18000 <= port < 28000 for port in ports.values())
    assert claim_ports(layout, 0, workers=2) == ports


def test_more_workers_keep_the_ports_of_the_others(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path)
    ports = claim_ports(layout, 0, workers=1)
    assert claim_ports(layout, 0, workers=3).items() >= ports.items()


def test_the_api_keeps_its_port_and_says_who_has_it_others_move(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path)
    ports = claim_ports(layout, 0, workers=1)
    with socket.create_server(("127.0.0.1", ports["api"])):
        assert f"pid {os.getpid()}" in name_holder(ports["api"])
        with pytest.raises(Conflict, match=f"port {ports['api']}.*pid {os.getpid()}.*STEELYARD_API_PORT"):
            claim_ports(layout, 0, workers=1)
    with socket.create_server(("127.0.0.1", ports["temporal"])):
        moved = claim_ports(layout, 0, workers=1)
    assert moved["temporal"] != ports["temporal"]
    assert moved["api"] == ports["api"]


def test_a_chosen_port_wins(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert claim_ports(HomeLayout(tmp_path), port, workers=1)["api"] == port


def test_a_damaged_memory_of_ports_is_replaced(tmp_path: Path) -> None:
    layout = HomeLayout(tmp_path)
    layout.ports_file.write_text("{half")
    ports = claim_ports(layout, 0, workers=1)
    assert all(is_free(port) for port in ports.values())
