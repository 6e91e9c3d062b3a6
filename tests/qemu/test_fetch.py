# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which kernel is the newest of a series."""

import fetch


def test_newest_is_by_number_and_not_by_letter():
    releases = ["6.1.0-9-cloud-amd64", "6.1.0-49-cloud-amd64", "6.1.0-10-cloud-amd64"]

    assert max(releases, key=fetch.version_key) == "6.1.0-49-cloud-amd64"


def test_series_does_not_match_a_longer_number():
    assert fetch.is_in_series("6.1.0-49-cloud-amd64", "6.1")
    assert not fetch.is_in_series("6.12.5+deb13-cloud-amd64", "6.1")


def test_newest_is_never_a_release_candidate():
    assert fetch.is_in_series("7.3.4+deb13-cloud-amd64", "newest")
    assert not fetch.is_in_series("7.3~rc7-cloud-amd64", "newest")


def test_kernel_is_found_in_both_layouts_of_the_packages(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for path in (
        old / "boot/vmlinuz-6.1.0-49-cloud-amd64",
        old / "lib/modules/6.1.0-49-cloud-amd64/kernel/a.ko",
        new / "usr/lib/modules/7.3.4+deb13-cloud-amd64/vmlinuz",
    ):
        path.parent.mkdir(parents=True)
        path.touch()

    first, second = fetch.read_kernel(old), fetch.read_kernel(new)

    assert first.release == "6.1.0-49-cloud-amd64"
    assert first.modules == old / "lib/modules/6.1.0-49-cloud-amd64"
    assert second.release == "7.3.4+deb13-cloud-amd64"
    assert second.modules is None


def test_folder_without_an_image_is_no_kernel(tmp_path):
    assert fetch.read_kernel(tmp_path) is None
