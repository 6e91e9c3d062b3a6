// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

// Goroutines that spin at fixed depths, each on a thread of its own.
// Started with GODEBUG=asyncpreemptoff=1, or the scheduler interrupts them.
package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sort"
	"sync/atomic"
	"time"
)

var spinning atomic.Int32
var sink uint64

func mixed(x uint64) uint64 {
	return x ^ x<<13
}

//go:noinline
func spin() uint64 {
	x := uint64(1)
	spinning.Add(1)
	for {
		x = mixed(x)
		sink = x
	}
}

//go:noinline
func descend(depth int) uint64 {
	if depth == 0 {
		return spin() + 1
	}
	return descend(depth-1) + 1
}

type shape interface{ area() uint64 }
type square struct{ side int }

func (s square) area() uint64 { return descend(s.side) + 1 }

func throughSort() {
	numbers := []int{3, 1, 2}
	sort.Slice(numbers, func(i, j int) bool { return descend(3) > uint64(i) })
}

func throughInterface(s shape) uint64 { return s.area() + 1 }

func throughDefer() {
	defer func() {
		recover()
		descend(2)
	}()
	panic("parked")
}

func main() {
	runtime.GOMAXPROCS(8)
	debug.SetGCPercent(-1)
	for _, run := range []func(){
		func() { descend(60) },
		throughSort,
		func() { throughInterface(square{4}) },
		throughDefer,
	} {
		go func() {
			runtime.LockOSThread()
			run()
		}()
	}
	for spinning.Load() < 4 {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("ready")
	select {}
}
