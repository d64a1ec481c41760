"""Tests of the pages sign in some two hundred times."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _cheap_passwords(cheap_passwords: None) -> None:
    """Passwords are hashed with little memory here."""
