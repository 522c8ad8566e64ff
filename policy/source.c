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

bool policy_source_exempt(const struct policy_settings *s, const char *address)
{
	for (size_t i = 0; i < s->penalty_exempt.n; i++)
		if (policy_addr_list(address, s->penalty_exempt.v[i].text) == 1)
			return true;
	return false;
}

/* The first one that matches, as in sshd, whose own channels for tunnels have
 * another name than the one that the protocol gives them. */
unsigned policy_channel_timeout(const struct policy_settings *s,
                                const char *type)
{
	const char *alias = strcmp(type, "tun@openssh.com") == 0 ?
	                    "tun-connection" : type;

	for (size_t i = 0; i < s->channel_timeouts.n; i++) {
		char pattern[128] = "", *value;
		unsigned seconds;

		strncat(pattern, s->channel_timeouts.v[i].text,
		        sizeof pattern - 1);
		if ((value = strrchr(pattern, '=')) == NULL)
			continue;
		*value++ = '\0';
		if ((policy_match(type, pattern) ||
		     policy_match(alias, pattern)) &&
		    policy_time(value, &seconds) == NULL)
			return seconds;
	}
	return 0;
}
