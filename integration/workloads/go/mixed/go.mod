// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
module mixed

go 1.22
