#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/edges.h"
#include "server/ipc.h"
#include "server/log.h"
#include "server/role.h"
#include "server/tundev.h"
#include "server/tunmaker.h"

enum { LIST_MAX = 4096 };

/* "addr[/bits] [peer]" a line. Returns how many, or -1. */
static int parse_list(const struct proto_field *f, struct tundev_address *v,
                      size_t max)
{
	char text[LIST_MAX + 1], *save = NULL, *peer;
	size_t n = 0;

	if (proto_cstr(f, text, sizeof(text)) < 0)
		return -1;
	for (char *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		peer = strchr(line, ' ');
		if (peer != NULL)
			*peer++ = '\0';
		if (n == max || tundev_parse(line, peer, &v[n]) < 0)
			return -1;
		n++;
	}
	return (int)n;
}

static int parse(const struct proto_msg *m, struct tundev_config *c)
{
	int naddresses, nroutes;

	memset(c, 0, sizeof(*c));
	if (m->f[4].n > INT_MAX)
		return -1;
	c->mode = (unsigned)m->f[1].n;
	c->mtu = (unsigned)m->f[3].n;
	c->txqueuelen = (int)m->f[4].n - 1;
	c->up = m->f[5].n != 0;
	c->offload = m->f[9].n != 0;
	naddresses = parse_list(&m->f[7], c->addresses, TUNDEV_ADDRESSES_MAX);
	nroutes = parse_list(&m->f[8], c->routes, TUNDEV_ROUTES_MAX);
	if (proto_cstr(&m->f[2], c->name, sizeof(c->name)) < 0 ||
	    proto_cstr(&m->f[6], c->bridge, sizeof(c->bridge)) < 0 ||
	    naddresses < 0 || nroutes < 0)
		return -1;
	c->naddresses = (size_t)naddresses;
	c->nroutes = (size_t)nroutes;
	return 0;
}

/* The device's descriptor, or -1 with the reason in err. */
static int make(const struct sandbox *sandbox, const struct sandbox_ids *ids,
                const struct proto_msg *m, unsigned *mtu, unsigned *index,
                bool *frames, char *err, size_t cap)
{
	struct tundev_config c = { .mtu = 0 };
	int fd = -1;

	snprintf(err, cap, "bad tunnel configuration");
	if (m->type == MAKER_OPEN || parse(m, &c) == 0)
		fd = tundev_open(err, cap);
	if (fd < 0 || m->type == MAKER_OPEN)
		return fd;
	if (sandbox_enter(sandbox, ids, NULL, err, cap) < 0) {
		close(fd);
		return -1;
	}
	*mtu = c.mtu;
	fd = tundev_create_on(fd, &c, index, err, cap);
	*frames = c.offload;
	return fd;
}

int tunmaker_run(const struct sandbox *sandbox, const struct sandbox_ids *ids,
                 struct proto_msg *m, int channel)
{
	struct ipc_peer *broker = ipc_peer_new(channel, &edge_broker_to_maker,
	                                       &edge_maker_to_broker, 1);
	unsigned request = (unsigned)m->f[0].n, index = 0, mtu = 0;
	bool frames = false;
	char err[256];
	int fd, rc;

	role_title("adit-tunmaker", "tun maker");
	if (broker == NULL)
		return 1;
	fd = make(sandbox, ids, m, &mtu, &index, &frames, err,
	          sizeof(err));
	if (fd >= 0)
		rc = ipc_send(broker, &fd, 1, MAKER_MADE, request, mtu, index,
		              frames ? 1u : 0u);
	else
		rc = ipc_send(broker, NULL, 0, MAKER_FAILED, request, err,
		              strlen(err));
	if (fd >= 0)
		close(fd); /* the broker's copy keeps the device */
	ipc_peer_free(broker);
	return rc == 0 ? 0 : 1;
}
