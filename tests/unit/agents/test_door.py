"""The export list is true."""

import atomesh.agents


def test_everything_in_all_is_there_and_nothing_private() -> None:
    for name in atomesh.agents.__all__:
        assert hasattr(atomesh.agents, name), f"{name} is exported and not there"
        assert not name.startswith("_")
    assert sorted(atomesh.agents.__all__) == atomesh.agents.__all__
