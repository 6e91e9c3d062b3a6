# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is shared with BPF: enumerators made from `ebpf/oa_abi.h`, and codecs. cdata stops here."""
