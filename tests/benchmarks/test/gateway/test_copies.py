import pytest

from tests.benchmarks.sections.gateway.copies import count, section


@pytest.mark.slow
def test_the_gateway_copies_an_image_no_more_often_than_lambda_requires():
    for row in section().rows:
        assert row.met, row.cells()


def test_a_response_without_an_image_is_an_error(tmp_path):
    app = "app = lambda event, context: {'statusCode': 502, 'body': ''}"
    (tmp_path / "app.py").write_text(app)

    with pytest.raises(RuntimeError, match="no image"):
        count(tmp_path, {})
