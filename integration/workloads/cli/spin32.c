// Copyright The otelagent authors
// SPDX-License-Identifier: Apache-2.0
/* 32-bit code that runs on a CPU for about a second and enters the kernel often. It needs no
 * libc: `gcc -m32 -nostdlib -static`, which works without the 32-bit development files.
 */
static int system_call(int number, int argument)
{
	int result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(argument) : "memory");
	return result;
}

void _start(void)
{
	for (int turn = 0; turn < 400; turn++) {
		for (volatile int i = 0; i < 1000000; i++)
			;
		system_call(20, 0); /* getpid */
	}
	system_call(1, 0); /* exit */
}
