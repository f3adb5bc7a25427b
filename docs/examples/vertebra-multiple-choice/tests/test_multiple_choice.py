from vertebra.testing import check_task


def test_the_task_keeps_every_promise():
    check_task("multiple_choice")
