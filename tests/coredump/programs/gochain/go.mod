// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

module gochain

go 1.19
