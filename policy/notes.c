/* Remarks on a policy: what has no effect, what is otherwise than in sshd. */
#include "policy/internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int policy_add_note(struct policy *p, struct policy_where where,
                    const char *fmt, ...)
{
	char raw[512], place[300], *note = NULL;
	void *v = p->notes;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(raw, sizeof raw, fmt, ap);
	va_end(ap);
	policy_where_str(&where, place, sizeof place);
	if ((note = malloc(sizeof place + sizeof raw)) == NULL)
		return -1;
	strcpy(note, place);
	policy_escape(note, sizeof place + sizeof raw, ": ");
	policy_escape(note, sizeof place + sizeof raw, raw);
	if (policy_grow(&v, p->nnotes, sizeof *p->notes) < 0) {
		free(note);
		return -1;
	}
	p->notes = v;
	p->notes[p->nnotes++] = note;
	return 0;
}

/* Who writes AllowUsers !bob means something that sshd does not do. */
static int note_negations(struct policy *p, const struct policy_setting *s,
                          const char *keyword)
{
	for (size_t i = 0; i < s->words.n; i++)
		if (s->words.v[i].text[0] == '!' &&
		    policy_add_note(p, s->where,
		                    "%s %s: a ! negates nothing here", keyword,
		                    s->words.v[i].text) < 0)
			return -1;
	return 0;
}

static int note_tunnel(struct policy *p, const struct policy_setting *s)
{
	if (policy_add_note(p, s->where, "PermitTunnel: a key's restrict or "
	                    "no-port-forwarding stops tunnels, in sshd it "
	                    "does not") < 0)
		return -1;
	return policy_add_note(p, s->where, "PermitTunnel: a key's "
	                       "tunnel=\"any\" permits every unit, in sshd "
	                       "none that the client names");
}

static int note_timeouts(struct policy *p, const struct policy_setting *s)
{
	for (size_t i = 0; i < s->words.n; i++)
		if (strncmp(s->words.v[i].text, "tun-connection=", 15) == 0 &&
		    policy_add_note(p, s->where, "ChannelTimeout "
		                    "tun-connection: holds for tunnels, which "
		                    "sshd 9.2 calls tun") < 0)
			return -1;
	return 0;
}

int policy_note_difference(struct policy *p, const struct policy_setting *s)
{
	switch (s->keyword) {
	case POLICY_ALLOW_USERS:
		return note_negations(p, s, "AllowUsers");
	case POLICY_DENY_USERS:
		return note_negations(p, s, "DenyUsers");
	case POLICY_ALLOW_GROUPS:
		return note_negations(p, s, "AllowGroups");
	case POLICY_DENY_GROUPS:
		return note_negations(p, s, "DenyGroups");
	case POLICY_DISABLE_FORWARDING:
		return s->number[0] == 0 ? 0 : policy_add_note(p, s->where,
			"DisableForwarding stops tunnels, too; in sshd it "
			"does not");
	case POLICY_PERMIT_TUNNEL:
		return s->number[0] == 0 ? 0 : note_tunnel(p, s);
	case POLICY_PERMIT_OPEN:
		return s->endpoints.n == 0 && !s->endpoints.none ? 0 :
			policy_add_note(p, s->where, "PermitOpen: a unix "
			"socket needs a pattern of its path; sshd opens it "
			"whatever is here");
	case POLICY_PERMIT_LISTEN:
		return s->endpoints.n == 0 && !s->endpoints.none ? 0 :
			policy_add_note(p, s->where, "PermitListen: a unix "
			"socket needs a pattern of its path; sshd listens on "
			"it whatever is here");
	case POLICY_CHANNEL_TIMEOUT:
		return note_timeouts(p, s);
	default:
		return 0;
	}
}

int policy_note_defaults(struct policy *p)
{
	static const struct {
		enum policy_keyword keyword;
		const char *text;
	} defaults[] = {
		{ POLICY_HOST_KEY, "HostKey is /etc/adit/ssh_host_*_key, "
		                   "sshd's are in /etc/ssh" },
		{ POLICY_REQUIRED_RSA_SIZE, "RequiredRSASize is 2048, sshd's "
		                            "is 1024" },
		{ POLICY_IP_QOS, "IPQoS is none, sshd's is af21 cs1" },
	};
	const struct policy_where nowhere = { .file = NULL };
	bool set[POLICY_KEYWORD__MAX] = { false };

	for (size_t i = 0; i < p->nsettings; i++)
		set[p->settings[i].keyword] = true;
	for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
		if (!set[defaults[i].keyword] &&
		    policy_add_note(p, nowhere, "%s", defaults[i].text) < 0)
			return -1;
	return 0;
}

const char *policy_note(const struct policy *p, size_t i)
{
	return i < p->nnotes ? p->notes[i] : NULL;
}
