"""What identifies a source."""

from __future__ import annotations

from pipeline.artifact import digest_json
from pipeline.sources.listing import SourceFile, SourceListing

WEIGHTS = SourceFile("model.safetensors", 1000, sha256="a" * 64)
CONFIG = SourceFile("config.json", 10, git_blob="b" * 40)


def test_local_identity_does_not_say_where() -> None:
    here = SourceListing("local", "./here", None, (WEIGHTS,))
    there = SourceListing("local", "/there", None, (WEIGHTS,))
    assert here.identity() == there.identity()
    assert here.identity() == {
        "kind": "local",
        "files": [{"name": "model.safetensors", "size_bytes": 1000, "sha256": "a" * 64}],
    }


def test_identity_is_unknown_while_a_digest_is() -> None:
    unknown = SourceFile("config.json", 10)
    assert SourceListing("local", ".", None, (WEIGHTS, unknown)).identity() is None


def test_hub_identity_has_repo_commit_and_published_digests() -> None:
    listing = SourceListing("hub", "acme/tiny", "c" * 40, (CONFIG, WEIGHTS))
    assert listing.identity() == {
        "kind": "hub",
        "repo": "acme/tiny",
        "commit": "c" * 40,
        "files": [
            {"name": "config.json", "size_bytes": 10, "git_blob": "b" * 40},
            {"name": "model.safetensors", "size_bytes": 1000, "sha256": "a" * 64},
        ],
    }
    moved = SourceListing("hub", "acme/tiny", "d" * 40, (CONFIG, WEIGHTS))
    assert digest_json(moved.identity()) != digest_json(listing.identity())


def test_sums_and_look_ups() -> None:
    listing = SourceListing("local", ".", None, (CONFIG, WEIGHTS))
    assert listing.total_bytes == 1010
    assert listing.weight_files == ("model.safetensors",)
    assert listing.find("config.json") is CONFIG
    assert listing.find("merges.txt") is None
