"""What the three top-level packages need from the outside."""

from importlib.metadata import distributions, packages_distributions


def test_no_dependency_ships_a_top_level_package_of_ours() -> None:
    """Two wheels with a top-level `models` overwrite each other silently."""
    owners = packages_distributions()
    for name in ("streams", "models", "agents"):
        assert set(owners.get(name, [])) <= {"penstock"}


def test_the_workers_environment_has_no_torch() -> None:
    names = {distribution.name.lower() for distribution in distributions()}
    assert not names & {"torch", "transformers", "optimum", "sentence-transformers"}
