/* What the fuzz targets have in common. */
#ifndef ADIT_TEST_FUZZ_H
#define ADIT_TEST_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A finding, if not. */
static inline void check(bool ok)
{
	if (!ok)
		abort();
}

#endif
