// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

module gocgo

go 1.19
