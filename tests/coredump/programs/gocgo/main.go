// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

// Go calls C, which calls Go, which spins; and one that waits in C.
package main

/*
#include <unistd.h>
extern long goCallback(long);

static __attribute__((noinline)) long c_waits(long depth)
{
	if (depth)
		return c_waits(depth - 1) + 1;
	return pause();
}

static __attribute__((noinline)) long c_calls_back(long depth)
{
	return goCallback(depth) + 1;
}
*/
import "C"

import (
	"fmt"
	"sync/atomic"
	"time"
)

var spinning int32
var sink int

//go:noinline
func goSpin() int {
	atomic.AddInt32(&spinning, 1)
	for {
		sink++
	}
}

//export goCallback
func goCallback(depth C.long) C.long {
	return C.long(goSpin()) + depth
}

//go:noinline
func callsC() C.long {
	return C.c_calls_back(3) + 1
}

//go:noinline
func waitsInC() C.long {
	atomic.AddInt32(&spinning, 1)
	return C.c_waits(3) + 1
}

func main() {
	go callsC()
	go waitsInC()
	for atomic.LoadInt32(&spinning) < 2 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
	fmt.Println("ready")
	select {}
}
