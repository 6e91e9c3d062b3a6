# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from dataclasses import fields

from otelagent.kernel import features


def test_every_feature_has_its_probe_and_is_described():
    names = [field.name for field in fields(features.KernelFeatures)]

    assert names == list(features._PROBES)
    for name in names:
        assert f"{name}: " in features.KernelFeatures.__doc__
