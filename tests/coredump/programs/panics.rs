// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

// `panic` stands in the hook of a panic, `drop` in a destructor while it unwinds, `chain` in
// a closure below a trait object and iterators.

use std::hint::black_box;
use std::io::Write;

#[inline(never)]
fn park() {
    std::io::stdout().write_all(b"ready\n").unwrap();
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1000));
    }
}

trait Shape {
    fn area(&self, depth: u32) -> u32;
}

struct Square(u32);

impl Shape for Square {
    #[inline(never)]
    fn area(&self, depth: u32) -> u32 {
        if depth > 0 {
            return self.area(depth - 1) + black_box(1);
        }
        if self.0 == 0 {
            park();
        }
        let _guard = Guard(self.0);
        panic!("now: {}", self.0);
    }
}

struct Guard(u32);

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0 == 2 {
            park();
        }
    }
}

#[inline(never)]
fn through_iterators(shape: &dyn Shape) -> u32 {
    (0..3u32).map(|n| shape.area(n + 3)).filter(|n| n % 2 == 0).sum()
}

fn main() {
    let kind = match std::env::args().nth(1).as_deref() {
        Some("chain") => 0,
        Some("panic") => 1,
        _ => 2,
    };
    if kind == 1 {
        std::panic::set_hook(Box::new(|_| park()));
    } else {
        std::panic::set_hook(Box::new(|_| ()));
    }
    let shape: Box<dyn Shape> = Box::new(Square(black_box(kind)));
    println!("{}", through_iterators(&*shape));
}
