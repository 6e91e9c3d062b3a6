// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
module parked

go 1.22
