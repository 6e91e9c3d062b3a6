/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* A library that `stacks dlopen` loads and unloads. */
volatile unsigned long plugin_sink;

__attribute__((noinline)) static void plugin_inner(int rounds)
{
	unsigned long x = 1;

	for (int i = 0; i < rounds; i++)
		x = x * 6364136223846793005UL + 1442695040888963407UL;
	plugin_sink = x;
}

void plugin_work(int rounds)
{
	plugin_inner(rounds);
	plugin_sink++;
}
