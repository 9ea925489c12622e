import json

from model_package.server.metrics import Metrics


def test_counters_and_histograms_are_prometheus_text():
    metrics = Metrics()
    metrics.responses.add("200")
    metrics.responses.add("200")
    metrics.responses.add("503")
    for seconds in (0.01, 0.3, 4000):
        metrics.pictures.observe(seconds)
    lines = metrics.prometheus({"queue_length": ("Requests that wait.", 3)}).splitlines()

    assert "easel_queue_length 3" in lines
    assert 'easel_responses_total{status="200"} 2' in lines
    assert 'easel_picture_seconds_bucket{le="0.05"} 1' in lines
    assert 'easel_picture_seconds_bucket{le="0.5"} 2' in lines
    assert 'easel_picture_seconds_bucket{le="+Inf"} 3' in lines
    assert "easel_picture_seconds_count 3" in lines
    assert lines.count("# TYPE easel_picture_seconds histogram") == 1


def test_cloudwatch_gets_what_happened_since_the_last_line():
    metrics = Metrics()
    metrics.pictures.observe(2)
    metrics.pictures.observe(4)
    metrics.responses.add("503")
    first = json.loads(metrics.embedded(1.5, "easel-sd", 1_700_000_000_000))
    second = json.loads(metrics.embedded(0, "easel-sd", 1_700_000_060_000))

    assert (first["Pictures"], first["PictureSeconds"], first["Refused"]) == (2, 3, 1)
    assert (first["QueueSeconds"], first["Endpoint"]) == (1.5, "easel-sd")
    assert (second["Pictures"], second["Refused"]) == (0, 0)
    assert "PictureSeconds" not in second
    for line in (first, second):
        (described,) = line["_aws"]["CloudWatchMetrics"]
        assert described["Dimensions"] == [["Endpoint"]]
        assert {each["Name"] for each in described["Metrics"]} == set(line) - {"_aws", "Endpoint"}
        assert len(described["Metrics"]) <= 6  # each costs money


def test_without_a_name_there_is_no_dimension():
    line = json.loads(Metrics().embedded(0, None, 0))
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [[]]
