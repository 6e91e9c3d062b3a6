// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

// Goroutines that each hold a thread and spin: recursion, sort, interface, defer in a panic,
// closures that are inlined; `signal`: one that is sent a signal while it spins; `switch`: one that
// collects garbage, for which it changes to the thread's own stack.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

var spinning int32
var sink uint64

func mixed(x uint64) uint64 { return x ^ x<<13 }

//go:noinline
func spin() uint64 {
	x := uint64(1)
	atomic.AddInt32(&spinning, 1)
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

func throughMap() {
	strings.Map(func(r rune) rune { return rune(descend(1)) }, "abc")
}

//go:noinline
func large(depth int) uint64 {
	var space [8192]uint64
	space[depth] = 1
	return descend(depth) + space[depth+1]
}

func signalled() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1)
	thread := syscall.Gettid()
	go func() {
		for atomic.LoadInt32(&spinning) == 0 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond) // no thread is just being made
		syscall.Tgkill(syscall.Getpid(), thread, syscall.SIGUSR1)
	}()
	descend(3)
}

//go:noinline
func collect(depth int) uint64 {
	if depth == 0 {
		runtime.GC()
		return 1
	}
	return collect(depth-1) + 1
}

var kinds = map[string][]func(){
	"chain":  {func() { descend(20) }},
	"sort":   {throughSort, func() { throughInterface(square{4}) }},
	"panic":  {throughDefer},
	"signal": {signalled},
	"switch": {func() { collect(3) }},
	"inline": {throughMap, func() { large(2) }},
}

func main() {
	runtime.GOMAXPROCS(4)
	debug.SetGCPercent(-1)
	runs := kinds[os.Args[1]]
	for _, run := range runs {
		run := run
		go func() {
			runtime.LockOSThread()
			run()
		}()
	}
	for int(atomic.LoadInt32(&spinning)) < len(runs) {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("ready")
	if len(os.Args) > 2 {
		time.Sleep(time.Hour)
	}
	select {}
}
