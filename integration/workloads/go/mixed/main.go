// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

// Goroutines, garbage collection, inlining, maps, sorting, the clock, panics, assembly.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

var sink int64

//go:noinline
func recurse(depth int) int {
	if depth == 0 {
		x := 1
		for i := 0; i < 5000; i++ {
			x = x*31 ^ i
		}
		return x
	}
	return recurse(depth-1) + 1
}

//go:noinline
func falls(depth int) int {
	defer func() { sink++ }()
	if depth == 0 {
		panic("deep")
	}
	return falls(depth-1) + 1
}

//go:noinline
func catch(depth int) (caught bool) {
	defer func() { caught = recover() != nil }()
	return falls(depth) == 0
}

type tree struct {
	left, right *tree
}

func grow(depth int) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{grow(depth - 1), grow(depth - 1)}
}

func clocks() (sum int64) {
	for i := 0; i < 3000; i++ {
		sum += time.Now().UnixNano() & 1
	}
	return sum
}

func texts() int {
	counts := map[string]int{}
	for i := 0; i < 500; i++ {
		counts["key"+strconv.Itoa(i*7919%100)] += i
	}
	keys := make([]string, 0, len(counts))
	for key := range counts {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	data, _ := json.Marshal(counts)
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	writer.Write(data)
	writer.Close()
	sum := sha256.Sum256(bytes.Repeat(data, 20))
	found := words.FindAllString(strings.Join(keys, " "), -1)
	return len(found) + int(sum[0]) + packed.Len() + len(fmt.Sprintf("%x %v", sum, found))
}

var words = regexp.MustCompile(`key[0-9]+`)

func work(until time.Time) {
	for time.Now().Before(until) {
		recurse(100)
		catch(10)
		grow(12)
		clocks()
		texts()
		results := make(chan int)
		for i := 0; i < 10; i++ {
			go func() { results <- recurse(i) }()
		}
		for i := 0; i < 10; i++ {
			<-results
		}
	}
}

func main() {
	seconds, _ := strconv.ParseFloat(os.Args[1], 64)
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var group sync.WaitGroup
	for i := 0; i < 4; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			work(until)
		}()
	}
	group.Wait()
}
