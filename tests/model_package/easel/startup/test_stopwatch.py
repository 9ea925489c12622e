from easel.startup.stopwatch import Clock


def test_each_step_has_its_seconds_in_the_order_of_the_first_marks():
    clock = Clock()
    for step in ("find", "weights", "find"):
        clock.mark(step)
    assert list(clock.steps) == ["find", "weights"]
    assert all(seconds >= 0 for seconds in clock.steps.values())


def test_what_was_over_before_counts_too():
    clock = Clock(imports=3.0)
    clock.mark("imports")
    clock.mark("find")
    assert list(clock.steps) == ["imports", "find"]
    assert clock.steps["imports"] >= 3
    assert clock.seconds >= 3
