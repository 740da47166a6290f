from plan import Plan


def closed(_):
    return False


def run(plan, place, is_open):
    """All that one place alone is given, up to a limit."""
    given = []
    while len(given) < 20 and (taken := plan.take(place, is_open)):
        plan.done(taken[0], True)
        given.append(taken)
    return given


def test_cells_that_need_the_same_follow_each_other():
    plan = Plan({"a1": "a", "b1": "b", "a2": "a", "b2": "b"})
    assert run(plan, "here", closed) == [("a1", 0), ("a2", 0), ("b1", 0), ("b2", 0)]


def test_two_places_share_the_cells_and_what_is_loaded():
    plan = Plan({"a1": "a", "a2": "a", "b1": "b", "b2": "b", "b3": "b"})
    assert plan.take("here", closed) == ("a1", 0)
    assert plan.take("there", closed) == ("b1", 0)
    plan.done("b1", True)
    assert plan.take("there", closed) == ("b2", 0)
    plan.done("a1", True)
    assert plan.take("here", closed) == ("a2", 0)
    plan.done("a2", True)
    # Nothing else is left: the same is loaded twice.
    assert plan.take("here", closed) == ("b3", 0)
    assert plan.take("there", closed) is None and plan.busy == {"b2", "b3"}


def test_open_cells_come_again_the_least_measured_first():
    plan = Plan({"a1": "a", "b1": "b", "a2": "a"})
    open_ones = {"a1", "a2"}
    given = []
    for _ in range(7):
        cell, before = plan.take("here", open_ones.__contains__)
        plan.done(cell, True)
        given.append((cell, before))
    assert given == [("a1", 0), ("a2", 0), ("b1", 0), ("a1", 1), ("a2", 1), ("a1", 2), ("a2", 2)]
    open_ones.clear()
    assert plan.take("here", open_ones.__contains__) is None and not plan.busy


def test_who_failed_is_not_asked_again():
    plan = Plan({"a1": "a", "a2": "a"})
    plan.done(plan.take("here", closed)[0], False)
    assert run(plan, "here", lambda _: True)[:3] == [("a2", 0), ("a2", 1), ("a2", 2)]
