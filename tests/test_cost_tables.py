"""The tables of costs, held to the code that makes them."""

import pytest

from tests.cost_tables import block, tables

MADE = tables()


@pytest.mark.parametrize(("page", "name"), MADE, ids=lambda value: getattr(value, "name", value))
def test_a_table_in_a_page_is_as_it_would_be_made_now(page, name):
    (found,) = block(name).findall(page.read_text(encoding="utf-8"))

    assert found[1] == MADE[page, name], "write it again: python -m tests.cost_tables"
