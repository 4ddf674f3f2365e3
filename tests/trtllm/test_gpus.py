"""The GPUs that are known by name."""

from __future__ import annotations

import pytest

from pipeline.trtllm.gpus import KNOWN_GPUS, by_targets, find_gpu, gpus_of, largest_of

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm90", "sm100", "sm103", "sm120", "sm121")


def test_every_target_from_turing_to_the_spark_has_gpus_in_order_of_memory() -> None:
    assert list(dict.fromkeys(gpu.target for gpu in KNOWN_GPUS)) == list(TARGETS)
    for target in TARGETS:
        sizes = [gpu.memory_mib for gpu in gpus_of(target)]
        assert min(sizes) > 10_000
        largest = largest_of(target)
        assert largest is not None
        assert largest.memory_mib == max(sizes)
    assert gpus_of("sm70") == ()
    assert largest_of("sm70") is None


def test_no_name_means_two_gpus() -> None:
    names = [name.casefold() for gpu in KNOWN_GPUS for name in (gpu.name, *gpu.short_names)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "target", "gigabytes"),
    [
        ("T4", "sm75", 16.1),
        ("a100 80", "sm80", 85.9),
        ("RTX A6000", "sm86", 51.5),
        ("NVIDIA L40S", "sm89", 48.3),
        ("h100", "sm90", 85.5),
        ("H200", "sm90", 150.8),
        ("B200", "sm100", 192.3),
        ("B300", "sm103", 288.4),
        ("RTX 5090", "sm120", 34.2),
        ("DGX Spark", "sm121", 130.7),
    ],
)
def test_a_gpu_is_found_by_either_name_in_any_case(
    name: str, target: str, gigabytes: float
) -> None:
    found = find_gpu(name)
    assert found is not None
    assert found.target == target
    assert round(found.memory_bytes / 1e9, 1) == gigabytes


def test_an_unknown_name_is_nothing() -> None:
    assert find_gpu("Voodoo 2") is None


def test_the_gpus_of_the_given_targets_come_first_and_none_is_lost() -> None:
    ordered = by_targets(("sm120", "sm75"))
    assert {gpu.target for gpu in ordered[: len(gpus_of("sm120"))]} == {"sm120"}
    assert ordered[len(gpus_of("sm120"))].target == "sm75"
    assert sorted(ordered, key=repr) == sorted(KNOWN_GPUS, key=repr)


def test_only_the_spark_shares_its_memory_with_the_host() -> None:
    assert [gpu.name for gpu in KNOWN_GPUS if gpu.is_shared] == ["NVIDIA GB10"]
