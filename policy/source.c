/* What limits mean for one client's address, and for one channel. */
#include "policy/internal.h"

#include <string.h>

bool policy_source(const struct policy_settings *s, const char *address,
                   struct policy_net *source)
{
	unsigned bits;

	if (!policy_net_of(address, source))
		return false;
	bits = source->family == 4 ? s->per_source_bits4 : s->per_source_bits6;
	if (bits < source->bits)
		source->bits = (uint8_t)bits;
	for (unsigned i = source->bits; i < 8 * sizeof source->addr; i++)
		source->addr[i / 8] &= (uint8_t)~(0x80 >> i % 8);
	return true;
}

bool policy_is_proxy(const struct policy_settings *s, const char *address)
{
	for (size_t i = 0; i < s->proxies.n; i++)
		if (policy_addr_list(address, s->proxies.v[i].text) == 1)
			return true;
	return false;
}

bool policy_source_exempt(const struct policy_settings *s, const char *address)
{
	if (policy_is_proxy(s, address))
		return true;
	for (size_t i = 0; i < s->penalty_exempt.n; i++)
		if (policy_addr_list(address, s->penalty_exempt.v[i].text) == 1)
			return true;
	return false;
}

/* A tunnel has three names: the protocol's, that of sshd_config(5), and the one
 * by which sshd 9.2 goes. */
static bool is_type(const char *type, const char *pattern)
{
	if (policy_match(type, pattern))
		return true;
	return strcmp(type, "tun@openssh.com") == 0 &&
	       (policy_match("tun-connection", pattern) ||
	        policy_match("tun", pattern));
}

/* The first one that matches, as in sshd. */
unsigned policy_channel_timeout(const struct policy_settings *s,
                                const char *type)
{
	for (size_t i = 0; i < s->channel_timeouts.n; i++) {
		char pattern[128] = "", *value;
		unsigned seconds;

		strncat(pattern, s->channel_timeouts.v[i].text,
		        sizeof pattern - 1);
		if ((value = strrchr(pattern, '=')) == NULL)
			continue;
		*value++ = '\0';
		if (is_type(type, pattern) &&
		    policy_time(value, &seconds) == NULL)
			return seconds;
	}
	return 0;
}
