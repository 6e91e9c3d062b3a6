/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_HEAP_H
#define OA_HEAP_H

/* Let what is freed go back to the kernel, for a process that runs for months. To be called before
 * there are threads. Where the C library cannot, nothing happens.
 */
void oa_bound_heap(void);

#endif
