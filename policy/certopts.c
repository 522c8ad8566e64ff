/* Options of certificates, and options put together. */
#include "policy/internal.h"

#include <stdlib.h>
#include <string.h>

static const char no_memory[] = "out of memory";
static const char broken[] = "broken options";

struct field {
	const uint8_t *p;
	size_t len;
};

static bool is(const struct field *f, const char *name)
{
	return f->len == strlen(name) && memcmp(f->p, name, f->len) == 0;
}

/* The next string of what is left; false: there is none. */
static bool next_string(struct field *left, struct field *out)
{
	const uint8_t *p = left->p;

	if (left->len < 4)
		return false;
	out->len = (size_t)p[0] << 24 | (size_t)p[1] << 16 |
	           (size_t)p[2] << 8 | p[3];
	if (out->len > left->len - 4)
		return false;
	out->p = p + 4;
	left->p += 4 + out->len;
	left->len -= 4 + out->len;
	return true;
}

/* The string that data consists of, copied. NULL with *why set. */
static char *only_string(struct field data, const char **why)
{
	struct field f;
	char *copy;

	*why = broken;
	if (!next_string(&data, &f) || data.len != 0 ||
	    memchr(f.p, '\0', f.len) != NULL)
		return NULL;
	*why = no_memory;
	if ((copy = strndup((const char *)f.p, f.len)) != NULL)
		*why = NULL;
	return copy;
}

static const char *take_command(struct policy_keyopts *o, struct field data)
{
	const char *why;

	if (o->has_command)
		return "force-command given twice";
	o->command = only_string(data, &why);
	o->has_command = why == NULL;
	return why;
}

/* Addresses and networks alone: what sshd takes. */
static const char *check_networks(char *list)
{
	for (char *entry; (entry = strsep(&list, ",")) != NULL;) {
		struct policy_net net;

		if (policy_net_parse(entry, &net) != NULL)
			return "source-address is not a list of networks";
	}
	return NULL;
}

static const char *take_source(struct policy_keyopts *o, struct field data)
{
	const char *why;
	char *copy;

	if (o->source_address != NULL)
		return "source-address given twice";
	o->source_address = only_string(data, &why);
	if (why != NULL)
		return why;
	if ((copy = strdup(o->source_address)) == NULL)
		return no_memory;
	why = check_networks(copy);
	free(copy);
	return why;
}

static const char *take_verify(struct policy_keyopts *o, struct field data)
{
	o->verify_required = true;
	return data.len == 0 ? NULL : broken;
}

static const struct {
	const char *name;
	const char *(*take)(struct policy_keyopts *o, struct field data);
} critical_options[] = {
	{ "force-command", take_command },
	{ "source-address", take_source },
	{ "verify-required", take_verify },
};

static const char *take_critical(struct policy_keyopts *o, struct field left)
{
	struct field name, data;
	size_t n = sizeof critical_options / sizeof *critical_options, i;
	const char *why;

	while (left.len > 0) {
		if (!next_string(&left, &name) || !next_string(&left, &data))
			return broken;
		for (i = 0; i < n && !is(&name, critical_options[i].name);)
			i++;
		if (i == n)
			return "critical option that is not understood";
		if ((why = critical_options[i].take(o, data)) != NULL)
			return why;
	}
	return NULL;
}

static const char *take_extensions(struct policy_keyopts *o, struct field left)
{
	struct field name, data;
	bool forwarding = false;

	while (left.len > 0) {
		if (!next_string(&left, &name) || !next_string(&left, &data))
			return broken;
		if (!is(&name, "permit-port-forwarding") &&
		    !is(&name, "no-touch-required"))
			continue;
		if (data.len != 0)
			return broken;
		if (is(&name, "permit-port-forwarding"))
			forwarding = true;
		else
			o->no_touch_required = true;
	}
	o->withheld = !forwarding;
	return NULL;
}

const char *policy_cert_opts(const uint8_t *critical, size_t critical_len,
                             const uint8_t *extensions, size_t extensions_len,
                             struct policy_where where,
                             struct policy_keyopts *out)
{
	const char *why;

	memset(out, 0, sizeof *out);
	out->port_forwarding = true;
	out->tunnel_unit = -1;
	out->withheld_where = where;
	why = take_critical(out, (struct field){ critical, critical_len });
	if (why == NULL)
		why = take_extensions(out, (struct field){ extensions,
		                                           extensions_len });
	return why;
}

static void take_text(char **to, char **from)
{
	if (*to != NULL)
		return;
	*to = *from;
	*from = NULL;
}

static void take_endpoints(struct policy_endpoints *to,
                           struct policy_endpoints *from)
{
	if (to->n != 0 || to->none)
		return;
	*to = *from;
	memset(from, 0, sizeof *from);
}

/* In each of the two, tunnel= excuses from having no forwards: it must in both
 * or there is no tunnel. */
static void merge_forwards(struct policy_keyopts *to,
                           const struct policy_keyopts *from)
{
	bool tunnels = (to->port_forwarding || to->tunnel_set) &&
	               (from->port_forwarding || from->tunnel_set);

	if (to->port_forwarding && !from->port_forwarding) {
		to->port_forwarding = false;
		to->no_forwarding = from->no_forwarding;
		to->no_forwarding_by = from->no_forwarding_by;
	}
	if (!tunnels) {
		to->tunnel_set = false;
	} else if (!to->tunnel_set && from->tunnel_set) {
		to->tunnel_set = true;
		to->tunnel_unit = from->tunnel_unit;
		to->tunnel_where = from->tunnel_where;
	}
	if (!to->withheld && from->withheld) {
		to->withheld = true;
		to->withheld_where = from->withheld_where;
	}
}

/* sshauthopt_merge(). Of two times the earlier one holds; there the second is
 * lost if the first has none. */
const char *policy_keyopts_merge(struct policy_keyopts *o,
                                 struct policy_keyopts *more)
{
	if (o->has_command && more->has_command &&
	    strcmp(o->command, more->command) != 0)
		return "its forced command is not that of the other options";
	merge_forwards(o, more);
	take_endpoints(&o->permit_open, &more->permit_open);
	take_endpoints(&o->permit_listen, &more->permit_listen);
	take_text(&o->from, &more->from);
	take_text(&o->source_address, &more->source_address);
	take_text(&o->command, &more->command);
	free(o->principals);
	o->principals = NULL;
	if (o->expiry_time == 0 || (more->expiry_time != 0 &&
	                            more->expiry_time < o->expiry_time))
		o->expiry_time = more->expiry_time;
	o->cert_authority = false;
	o->has_command |= more->has_command;
	o->no_touch_required &= more->no_touch_required;
	o->verify_required |= more->verify_required;
	return NULL;
}
