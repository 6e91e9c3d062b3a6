// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

const std = @import("std");

var keep: u32 = 0;

noinline fn park() void {
    _ = std.posix.write(1, "ready\n") catch return;
    while (true) std.time.sleep(1000 * std.time.ns_per_s);
}

noinline fn descend(depth: u32) u32 {
    if (depth > 0) return descend(depth - 1) + @as(*volatile u32, &keep).*;
    park();
    return @as(*volatile u32, &keep).*;
}

fn less(context: u32, a: u32, b: u32) bool {
    _ = a;
    return descend(context) < b;
}

noinline fn throughSort() void {
    var numbers = [_]u32{ 3, 2, 1 };
    std.sort.heap(u32, &numbers, @as(u32, 4), less);
    keep += numbers[0];
}

pub fn main() void {
    throughSort();
}
