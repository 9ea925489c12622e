"""The generated tables in the pages, compared with the code that generates them."""

import pytest

from tests.page_tables import block, tables

GENERATED = tables()


@pytest.mark.parametrize(
    ("page", "name"), GENERATED, ids=lambda value: getattr(value, "name", value)
)
def test_a_table_in_a_page_is_up_to_date(page, name):
    (match,) = block(name).findall(page.read_text(encoding="utf-8"))

    assert match[1] == GENERATED[page, name](), "generate it again: python -m tests.page_tables"
