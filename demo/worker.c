// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0

/* A child process in C, built as distributions build theirs: optimised, without
 * frame pointers. It walks a tree that it makes again and again, and sorts.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct node {
	struct node *left, *right;
	uint32_t key;
};

static uint32_t seed = 1;

__attribute__((noinline)) static uint32_t next_random(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

__attribute__((noinline)) static struct node *insert(struct node *tree, struct node *leaf)
{
	if (!tree)
		return leaf;
	if (leaf->key < tree->key)
		tree->left = insert(tree->left, leaf);
	else
		tree->right = insert(tree->right, leaf);
	return tree;
}

__attribute__((noinline)) static uint64_t sum_tree(const struct node *tree)
{
	return tree ? tree->key + sum_tree(tree->left) + sum_tree(tree->right) : 0;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

__attribute__((noinline)) static uint64_t grow_and_sum(size_t count)
{
	struct node *nodes = calloc(count, sizeof(*nodes)), *tree = NULL;
	uint64_t sum;

	for (size_t i = 0; i < count; i++) {
		nodes[i].key = next_random();
		tree = insert(tree, &nodes[i]);
	}
	sum = sum_tree(tree);
	free(nodes);
	return sum;
}

__attribute__((noinline)) static uint64_t fill_and_sort(size_t count)
{
	uint32_t *numbers = malloc(count * sizeof(*numbers));
	uint64_t middle;

	for (size_t i = 0; i < count; i++)
		numbers[i] = next_random();
	qsort(numbers, count, sizeof(*numbers), compare);
	middle = numbers[count / 2];
	free(numbers);
	return middle;
}

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 3);
	uint64_t sum = 0;

	while (time(NULL) < end)
		sum += grow_and_sum(20000) + fill_and_sort(50000);
	return sum == 42;
}
