// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
module cgo

go 1.22
