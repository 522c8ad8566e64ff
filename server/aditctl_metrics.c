#include "server/aditctl.h"
#include "server/metrics.h"

struct numbers {
	bool there;
	uint64_t v[METRICS__MAX];
	struct metrics_build build;
};

static void on_numbers(void *arg, struct proto_msg *m)
{
	struct numbers *n = arg;
	const struct proto_field *f = m->f;

	n->there = m->type == CONTROL_NUMBERS &&
	           metrics_unpack(f[1].p, f[1].len, n->v, METRICS__MAX) == 0 &&
	           proto_cstr(&f[2], n->build.version, METRICS_TEXT_MAX) == 0 &&
	           proto_cstr(&f[3], n->build.libssh, METRICS_TEXT_MAX) == 0 &&
	           proto_cstr(&f[4], n->build.openssl, METRICS_TEXT_MAX) == 0;
}

/* There is one form of it, --json or not. */
int ctl_metrics(struct ctl *c, char **words)
{
	struct numbers n = { .there = false };
	int rc;

	if (words[0] != NULL)
		return ctl_usage("metrics takes nothing");
	rc = ctl_ask(c, on_numbers, &n, CONTROL_METRICS, ++c->request);
	if (rc != CTL_OK)
		return rc;
	if (!n.there) {
		ctl_complain(c, "aditd counts other things than this aditctl "
		             "knows: it is of another version");
		return CTL_BROKEN;
	}
	metrics_print(stdout, n.v, &n.build);
	return CTL_OK;
}
