// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
//! Collections, trait objects, panics that unwind, threads.
use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::time::{Duration, Instant};

trait Shape {
    fn area(&self, step: u64) -> u64;
}

struct Square(u64);

impl Shape for Square {
    #[inline(never)]
    fn area(&self, step: u64) -> u64 {
        (0..50).fold(self.0, |sum, i| sum.wrapping_mul(31).wrapping_add(step ^ i))
    }
}

#[inline(never)]
fn falls(depth: u32) -> u32 {
    let guard = vec![depth; 4];
    if depth == 0 {
        panic!("deep");
    }
    falls(depth - 1) + black_box(&guard).len() as u32
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    if depth == 0 {
        return (0..2000u64).fold(1, |sum, i| black_box(sum * 7 ^ i));
    }
    recurse(depth - 1) + black_box(depth)
}

fn work(seconds: f64) -> u64 {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let shapes: Vec<Box<dyn Shape>> = (0..64).map(|i| Box::new(Square(i)) as _).collect();
    let mut sum = 0u64;
    while Instant::now() < end {
        for depth in 0..10 {
            sum += u64::from(std::panic::catch_unwind(|| falls(depth)).is_err());
        }
        let mut counts: HashMap<String, u64> = HashMap::new();
        for i in 0..500u64 {
            *counts.entry(format!("key{}", i * 7919 % 100)).or_default() += i;
        }
        let sorted: BTreeMap<_, _> = counts.iter().collect();
        sum = sorted.values().fold(sum, |sum, value| sum.wrapping_add(**value));
        sum = shapes.iter().fold(sum, |sum, shape| sum.wrapping_add(shape.area(sum)));
        sum = sum.wrapping_add(recurse(60));
    }
    sum
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).map_or(2.0, |text| text.parse().unwrap());
    std::panic::set_hook(Box::new(|_| {}));
    let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(move || work(seconds))).collect();
    let mut sum = work(seconds);
    for thread in threads {
        sum = sum.wrapping_add(thread.join().unwrap());
    }
    black_box(sum);
}
