#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/parts.h"

enum { CAPS_MAX = 64 };

const char *caps_name(unsigned cap)
{
	const char *name = capng_capability_to_name(cap);

	return name != NULL ? name : "unknown";
}

/* capget(2), as libcap-ng would read /proc as well, which may be gone. */
static void held(struct __user_cap_data_struct now[2])
{
	struct __user_cap_header_struct hdr = {
		_LINUX_CAPABILITY_VERSION_3, 0
	};

	if (syscall(SYS_capget, &hdr, now) < 0)
		now[0] = now[1] = (struct __user_cap_data_struct){ 0 };
}

static uint64_t permitted(void)
{
	struct __user_cap_data_struct now[2];

	held(now);
	return (uint64_t)now[1].permitted << 32 | now[0].permitted;
}

/* None, after a change of the effective uid alone. */
static uint64_t effective(void)
{
	struct __user_cap_data_struct now[2];

	held(now);
	return (uint64_t)now[1].effective << 32 | now[0].effective;
}

static bool has(uint64_t set, unsigned cap)
{
	return (set >> cap & 1) != 0;
}

static int set_caps(uint64_t caps)
{
	capng_clear(CAPNG_SELECT_CAPS);
	for (unsigned c = 0; c < CAPS_MAX; c++)
		if (has(caps, c) &&
		    capng_update(CAPNG_ADD, CAPNG_PERMITTED | CAPNG_EFFECTIVE,
		                 c) < 0)
			return -1;
	return capng_apply(CAPNG_SELECT_CAPS) == 0 ? 0 : -1;
}

/* It is read once, also for children: a set that cannot grow is in none of them
 * larger than what is remembered. */
static uint64_t bounds;
static bool bounds_known;

static uint64_t bounding(void)
{
	for (unsigned c = 0; c < CAPS_MAX && !bounds_known; c++) {
		int in = prctl(PR_CAPBSET_READ, c, 0, 0, 0);
		if (in < 0)
			break; /* past the kernel's last */
		bounds |= (uint64_t)in << c;
	}
	bounds_known = true;
	return bounds;
}

/* All that takes CAP_SETPCAP. KEEP_CAPS stays unlocked: it is cleared after
 * the change of ids, and without CAP_SETUID it has no further use. */
static int bound(const struct profile *pf, uint64_t surplus, bool keep,
                 const struct parts_why *why)
{
	int bits = SECBIT_NO_SETUID_FIXUP_LOCKED |
	           SECBIT_NO_CAP_AMBIENT_RAISE |
	           SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	for (unsigned c = 0; c < CAPS_MAX; c++)
		if (has(surplus, c) &&
		    prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			return parts_fail(why, "capability bounding set");
	bounds &= ~surplus;
	if (!pf->execs)
		bits |= SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;
	if (keep)
		bits |= SECBIT_KEEP_CAPS;
	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return parts_fail(why, "securebits");
	return 0;
}

static int become(const struct sandbox_ids *ids, const struct parts_why *why)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	if (setgroups(ids->ngroups, ids->groups) < 0)
		return parts_fail(why, "setgroups");
	if (setresgid(ids->gid, ids->gid, ids->gid) < 0)
		return parts_fail(why, "setresgid");
	if (setresuid(ids->uid, ids->uid, ids->uid) < 0)
		return parts_fail(why, "setresuid");
	if (getresuid(&r, &e, &s) < 0 || getresgid(&rg, &eg, &sg) < 0 ||
	    r != ids->uid || e != ids->uid || s != ids->uid ||
	    rg != ids->gid || eg != ids->gid || sg != ids->gid) {
		errno = EPERM;
		return parts_fail(why, "ids did not change");
	}
	return 0;
}

/* The sets as this moment's kernel has them, not as they were asked for. */
static int check(uint64_t caps, const struct sandbox_ids *ids,
                 const struct parts_why *why)
{
	errno = EPERM;
	if (permitted() != caps)
		return parts_fail(why, "capabilities did not change");
	if (ids != NULL && ids->uid != 0 &&
	    (setresuid((uid_t)-1, 0, (uid_t)-1) == 0 ||
	     setresgid((gid_t)-1, ids->gid == 0 ? 1 : 0, (gid_t)-1) == 0)) {
		errno = EPERM;
		return parts_fail(why, "ids can still be changed");
	}
	return 0;
}

int caps_enter(const struct profile *pf, const struct sandbox_ids *ids,
               const struct parts_why *why)
{
	uint64_t have = permitted(), want = pf->caps;
	uint64_t surplus = bounding() & ~pf->bounding;

	if (ids != NULL && !pf->becomes) {
		errno = EINVAL;
		return parts_fail(why, "this role keeps its ids");
	}
	if (ids != NULL && ids->keep_bind_service)
		want |= pf->caps_asked;
	if (geteuid() != 0)
		ids = NULL;
	if (geteuid() == 0)
		for (unsigned c = 0; c < CAPS_MAX; c++)
			if (has(want & ~have, c))
				parts_missing(why, "capability %s",
				              caps_name(c));
	want &= have;
	if (has(effective(), CAP_SETPCAP)) {
		if (bound(pf, surplus, ids != NULL && want != 0, why) < 0)
			return -1;
	} else if (have != 0 && surplus != 0) {
		parts_missing(why, "a smaller capability bounding set");
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 &&
	    errno != EINVAL) /* before Linux 4.3 there is none */
		return parts_fail(why, "ambient capabilities");
	if (ids != NULL && become(ids, why) < 0)
		return -1;
	if (set_caps(want) < 0)
		return parts_fail(why, "capset");
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return parts_fail(why, "keepcaps");
	return check(want, ids, why);
}
