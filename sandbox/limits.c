#include <sys/resource.h>

#include "sandbox/parts.h"

int limits_enter(const struct profile *pf, const struct parts_why *why)
{
	for (const struct profile_limit *l = pf->limits; l->name != NULL; l++) {
		struct rlimit rl;
		if (PROFILE_SANITIZED && !l->sanitizer)
			continue;
		if (getrlimit((__rlimit_resource_t)l->resource, &rl) < 0)
			return parts_fail(why, "getrlimit");
		if (rl.rlim_max <= l->value && rl.rlim_cur == rl.rlim_max)
			continue;
		if (rl.rlim_max > l->value)
			rl.rlim_max = (rlim_t)l->value;
		rl.rlim_cur = rl.rlim_max;
		if (setrlimit((__rlimit_resource_t)l->resource, &rl) < 0)
			return parts_fail(why, l->name);
	}
	return 0;
}
