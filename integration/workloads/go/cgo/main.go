// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

// Go calls C, which calls Go, which burns.
package main

/*
extern long goCallback(long);

static __attribute__((noinline)) long c_burn(long rounds)
{
	unsigned long x = 1;
	for (long i = 0; i < rounds; i++) {
		x ^= x << 13;
		x ^= x >> 7;
	}
	return (long)(x & 1);
}

static __attribute__((noinline)) long c_calls_back(long rounds)
{
	return goCallback(rounds) + c_burn(rounds);
}
*/
import "C"

import (
	"os"
	"strconv"
	"time"
)

//go:noinline
func goBurn(rounds int) int {
	x := 1
	for i := 0; i < rounds; i++ {
		x = x*31 ^ i
	}
	return x
}

//export goCallback
func goCallback(rounds C.long) C.long {
	return C.long(goBurn(int(rounds))&1) + C.c_burn(rounds)
}

func main() {
	seconds, _ := strconv.ParseFloat(os.Args[1], 64)
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	done := make(chan C.long)
	for i := 0; i < 2; i++ {
		go func() {
			var sum C.long
			for time.Now().Before(until) {
				sum += C.c_calls_back(20000) + C.c_burn(20000)
			}
			done <- sum
		}()
	}
	<-done
	<-done
}
