"""tools/gpu_check/net_speed.py: nets are timed."""

from dataclasses import replace


def test_nets_are_timed_beside_their_floors(tool, job):
    speed = tool("gpu_check/net_speed")
    net = job.net("DeepLab-LargeFOV")
    cases = speed.Case((200, 306), bars=(10, 5)), speed.Case((306, 306), batch=2)
    *timed, built = speed.time_net(net, cases, job, "float16")
    assert [each.facts["input"] for each in timed] == ["1x3x25x33", "2x3x33x33"]
    assert [each.facts["bar ms"] for each in timed] == [5, None]
    assert all(each.verdict is None for each in timed)  # in a rehearsal
    assert all(each.facts["median ms"] > each.facts["floor ms"] > 0 for each in timed)
    assert built.facts["build ms"] > 0
    assert replace(job, rehearsal=False).bar(False) == "not met"


def test_phases_are_timed_beside_the_plain_net(tool, job):
    """In a rehearsal both are the plain net, on the CPU."""
    speed = tool("gpu_check/net_speed")
    found = speed.time_phases(job.net("DeepLab-LargeFOV"), speed.Case((200, 306)), job, "float16")
    assert found.facts["faster"] in ("in phases", "plain")
    assert found.facts["largest difference"] == 0 < found.facts["deviation of scores"]
    assert found.verdict is None
