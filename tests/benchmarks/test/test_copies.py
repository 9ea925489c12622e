import pytest

from tests.benchmarks.sections.copies import count, section


@pytest.mark.slow
def test_the_gateway_copies_a_picture_no_more_often_than_lambda_makes_everybody():
    for row in section().rows:
        assert row.met, row.cells()


def test_a_lambda_that_answers_no_picture_is_not_counted(tmp_path):
    answer = "app = lambda event, context: {'statusCode': 502, 'body': ''}"
    (tmp_path / "app.py").write_text(answer)

    with pytest.raises(RuntimeError, match="no picture"):
        count(tmp_path, {})
