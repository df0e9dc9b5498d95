"""A scrape of a process that has one thread, by a real client."""

import socket
import threading

import httpx

from steelyard.compute.local.figures import FORKS, answer_scrape, open_figures


def test_a_scrape_gets_the_figures() -> None:
    FORKS.inc()
    with open_figures(0) as listener:
        answering = threading.Thread(target=answer_scrape, args=(listener,))
        answering.start()
        response = httpx.get(f"http://127.0.0.1:{listener.getsockname()[1]}/metrics")
        answering.join()
    assert response.headers["content-type"].startswith("text/plain")
    assert "steelyard_forks_total" in response.text
    assert "process_resident_memory_bytes" in response.text


def test_one_that_breaks_off_is_forgotten() -> None:
    with open_figures(0) as listener:
        socket.create_connection(listener.getsockname()).close()
        answer_scrape(listener)
