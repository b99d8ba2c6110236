import os
import signal
import threading

import pytest

from compjax.training.interruption import catch_sigterm


@pytest.fixture
def handler():
    """A handler of our own in place of the one that ends the tests."""
    calls = []
    previous = signal.signal(signal.SIGTERM, lambda *_: calls.append(1))
    yield calls
    signal.signal(signal.SIGTERM, previous)


def test_the_run_is_told_and_the_process_lives(handler):
    with catch_sigterm() as stop:
        assert [stop(1), stop(2)] == [False, False]
        os.kill(os.getpid(), signal.SIGTERM)
        assert [stop(3), stop(4)] == [True, True]
    assert handler == []


def test_the_second_signal_and_those_after_act_as_before(handler):
    with catch_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        assert handler == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert handler == [1]
    os.kill(os.getpid(), signal.SIGTERM)
    assert handler == [1, 1]


def test_the_handler_returns_after_an_error_too(handler):
    with pytest.raises(ZeroDivisionError), catch_sigterm():
        raise ZeroDivisionError
    os.kill(os.getpid(), signal.SIGTERM)
    assert handler == [1]


def test_elsewhere_than_in_the_main_thread_nothing_is_caught():
    found = []

    def run():
        with catch_sigterm() as stop:
            found.append(stop(1))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [False]
