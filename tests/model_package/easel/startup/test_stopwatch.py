from easel.startup.stopwatch import Stopwatch


def test_each_step_has_its_seconds_in_the_order_of_the_first_marks():
    stopwatch = Stopwatch()
    for step in ("find", "weights", "find"):
        stopwatch.mark(step)
    assert list(stopwatch.steps) == ["find", "weights"]
    assert all(seconds >= 0 for seconds in stopwatch.steps.values())


def test_what_was_over_before_counts_too():
    stopwatch = Stopwatch(imports=3.0)
    stopwatch.mark("imports")
    stopwatch.mark("find")
    assert list(stopwatch.steps) == ["imports", "find"]
    assert stopwatch.steps["imports"] >= 3
    assert stopwatch.seconds >= 3
