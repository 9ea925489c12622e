"""The lines of results, which are also what a batch resumes from."""

from dataclasses import replace

from endpoint.core.batches import results
from endpoint.core.batches.lines import read_file
from endpoint.core.generation import GenerationRequest

LINES = read_file(".txt", b"a cat\n--prompt a dog --n_iter 2\na bird", ["sd"])


def test_a_result_has_the_shape_of_openais_and_the_seeds():
    result = results.succeeded(LINES[1], [{"url": "a"}, {"url": "b"}], created=5)

    body = result["response"]["body"]
    assert set(result) == {"id", "custom_id", "response", "error"}
    assert result["response"]["status_code"] == 200
    assert [one["seed"] for one in body["data"]] == [
        picture.request.seed for picture in LINES[1].pictures
    ]
    assert results.is_success(result)


def test_a_failure_says_whose_fault_it_is():
    own = results.failed(LINES[0], "No such adapter.", status=400, field="lora")
    other = results.failed(LINES[0], "The model failed.")
    cancelled = results.not_run(LINES[0], "batch_cancelled", "It was cancelled.")

    assert own["response"]["body"]["error"]["type"] == "invalid_request_error"
    assert other["response"]["body"]["error"]["type"] == "server_error"
    assert list(map(results.message_of, (own, other, cancelled))) == [
        "No such adapter.", "The model failed.", "It was cancelled.",
    ]  # fmt: skip
    assert not any(map(results.is_success, (own, other, cancelled)))


def test_the_last_result_of_a_line_counts_and_a_cut_one_is_left_out():
    written = [
        results.failed(LINES[0], "no"),
        results.succeeded(LINES[0], [{"url": "a"}], 1),
        results.succeeded(LINES[2], [{"url": "c"}], 1),
    ]
    content = results.to_jsonl(written)

    assert results.read(content[:-5], LINES) == {"0001": written[1]}
    assert results.read(b"\xff\n{}\n[]\n5\n" + content, LINES).keys() == {"0001", "0003"}


def test_the_result_of_a_line_that_has_changed_does_not_count():
    content = results.to_jsonl([results.succeeded(LINES[0], [{"url": "a"}], 1)])
    picture = replace(LINES[0].pictures[0], request=GenerationRequest(prompt="b", seed=1))

    assert results.read(content, [replace(LINES[0], pictures=(picture,))]) == {}
