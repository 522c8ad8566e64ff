/*
 * What the daemon before us had, by the descriptors that the service manager
 * kept. Nobody can come and say that he is an old session: descriptors are
 * inherited, and those that the registry does not know are closed.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/address.h"
#include "server/counts.h"
#include "server/edges.h"
#include "server/listener_service.h"
#include "server/log.h"

/* ---- descriptors ---- */

static int by_kind_and_number(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static enum service_kind parse(const char *name, uint32_t *number)
{
	for (enum service_kind k = SERVICE_LISTEN; k < SERVICE_KINDS; k++) {
		size_t n = strlen(listener_service_names[k]);
		unsigned long value;
		char *end;

		if (strncmp(name, listener_service_names[k], n) != 0 ||
		    name[n] != '-' || name[n + 1] < '1' || name[n + 1] > '9')
			continue;
		value = strtoul(name + n + 1, &end, 10);
		if (*end != '\0' || value > UINT32_MAX)
			continue;
		*number = (uint32_t)value;
		return k;
	}
	return SERVICE_OTHER;
}

int listener_adopt_sort(struct listener_service *s)
{
	s->kept = calloc(s->given->nfds + 1, sizeof(*s->kept));
	if (s->kept == NULL)
		return -1;
	for (size_t i = 0; i < s->given->nfds; i++) {
		struct service_fd *f = &s->given->fds[i];
		struct kept *k = &s->kept[s->nkept];

		if (f->fd < 0)
			continue;
		k->kind = parse(f->name, &k->number);
		if (k->kind == SERVICE_OTHER)
			continue;
		k->fd = f->fd;
		f->fd = -1;
		s->nkept++;
	}
	qsort(s->kept, s->nkept, sizeof(*s->kept), by_kind_and_number);
	return 0;
}

/* The first one of that name; NULL: none. */
static struct kept *find(struct listener_service *s, enum service_kind kind,
                         uint32_t number)
{
	const struct kept wanted = { .kind = kind, .number = number };
	struct kept *k = bsearch(&wanted, s->kept, s->nkept, sizeof(*k),
	                         by_kind_and_number);

	while (k != NULL && k > s->kept &&
	       by_kind_and_number(k - 1, &wanted) == 0)
		k--;
	return k;
}

static bool same_name(const struct listener_service *s, const struct kept *k,
                      const struct kept *first)
{
	return k < s->kept + s->nkept && by_kind_and_number(k, first) == 0;
}

/* Of all of that name the one that fits; -1: none does. */
static int take(struct listener_service *s, enum service_kind kind,
                uint32_t number, bool (*fits)(int fd))
{
	struct kept *first = find(s, kind, number);

	for (struct kept *k = first; k != NULL && same_name(s, k, first); k++)
		if (k->fd >= 0 && fits(k->fd)) {
			int fd = k->fd;

			k->fd = -1;
			return fd;
		}
	return -1;
}

/* One that a daemon with our ids made. */
static bool is_edge(int fd)
{
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(who);

	return listener_service_option(fd, SO_DOMAIN) == AF_UNIX &&
	       listener_service_option(fd, SO_TYPE) == SOCK_SEQPACKET &&
	       getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
	       who.uid == geteuid();
}

static bool is_client(int fd)
{
	int domain = listener_service_option(fd, SO_DOMAIN);

	return (domain == AF_INET || domain == AF_INET6) &&
	       listener_service_option(fd, SO_TYPE) == SOCK_STREAM &&
	       listener_service_option(fd, SO_ACCEPTCONN) == 0;
}

/* ---- sockets that listen ---- */

static bool is_at(int fd, const char *address, unsigned port)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char own[64];
	unsigned own_port;

	return getsockname(fd, (void *)&ss, &len) == 0 &&
	       address_format(&ss, own, sizeof(own), &own_port) == 0 &&
	       strcmp(own, address) == 0 && own_port == port;
}

bool listener_adopt_has(const struct listener *l, const char *address,
                        unsigned port)
{
	for (size_t i = 0; i < l->nsockets; i++)
		if (is_at(l->sockets[i].fd, address, port))
			return true;
	return false;
}

bool listener_adopt_socket(struct listener *l, const char *address,
                           unsigned port)
{
	struct listener_service *s = l->service;

	for (size_t i = 0; i < s->nkept; i++) {
		struct kept *k = &s->kept[i];

		if (k->kind != SERVICE_LISTEN || k->fd < 0 ||
		    !listener_service_is_server(k->fd) ||
		    !is_at(k->fd, address, port) ||
		    l->nsockets == LISTENER_SOCKETS_MAX)
			continue;
		l->sockets[l->nsockets++] = (struct server_socket){
			.fd = k->fd, .origin = SOCKET_KEPT,
			.stored = k->number };
		k->fd = -1;
		return true;
	}
	return false;
}

void listener_adopt_no_more_sockets(struct listener *l)
{
	struct listener_service *s = l->service;

	for (size_t i = 0; i < s->nkept; i++) {
		struct kept *k = &s->kept[i];

		if (k->kind != SERVICE_LISTEN)
			continue;
		if (k->number > s->last_socket)
			s->last_socket = k->number;
		if (k->fd < 0)
			continue;
		/* its place may be wanted before the manager closes it */
		shutdown(k->fd, SHUT_RDWR);
		close(k->fd);
		k->fd = -1;
		listener_store_forget(l, SERVICE_LISTEN, k->number);
	}
}

/* ---- the registry ---- */

struct reading {
	struct listener *l;
	uint8_t *text;
	size_t len;
	unsigned conns, refused;
};

static const char *load(struct reading *r, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_size > REGISTRY_MAX)
		return "not a file, or too large";
	r->len = (size_t)st.st_size;
	r->text = malloc(r->len + 1);
	if (r->text == NULL)
		return "no memory";
	if (pread(fd, r->text, r->len, 0) != st.st_size)
		return "it cannot be read";
	if (r->len < REGISTRY_MAGIC_LEN ||
	    memcmp(r->text, REGISTRY_MAGIC, REGISTRY_MAGIC_LEN) != 0)
		return "it does not begin as one";
	return NULL;
}

/* Each entry in turn; the last one may be cut off, and then what it names was
 * never kept. Returns why it was refused. */
static const char *each(struct reading *r,
                        void (*fn)(struct reading *r,
                                   const struct proto_msg *m))
{
	size_t at = REGISTRY_MAGIC_LEN;

	while (r->len - at >= REGISTRY_LENGTH + REGISTRY_SUM) {
		const uint8_t *p = r->text + at;
		size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 |
		           (size_t)p[2] << 8 | p[3];
		struct proto_msg m;
		uint64_t seen = 0, sum;
		const char *why;

		if (n > r->len - at - REGISTRY_LENGTH - REGISTRY_SUM)
			break;
		if (proto_decode(&edge_registry, 1, &seen,
		                 p + REGISTRY_LENGTH, n, 0, &m, &why) < 0)
			return why;
		memcpy(&sum, p + REGISTRY_LENGTH + n, REGISTRY_SUM);
		if (sum != counts_hash(0, p + REGISTRY_LENGTH, n))
			return "an entry is damaged";
		if (fn != NULL)
			fn(r, &m);
		at += REGISTRY_LENGTH + n + REGISTRY_SUM;
	}
	return NULL;
}

static uint64_t past(uint64_t ms)
{
	uint64_t now = loop_now_ms();

	return ms < now ? ms : now;
}

static int fill(struct conn *c, const struct proto_field *f)
{
	c->port = (unsigned)f[2].n;
	c->since_ms = past(f[3].n);
	c->login_ms = past(f[4].n);
	c->logged_in = true;
	ipc_peer_phase(c->broker, PHASE_OPEN);
	if (proto_cstr(&f[1], c->address, sizeof(c->address)) < 0 ||
	    c->port > 65535 || f[5].len == 0)
		return -1;
	c->hostkeys_mark = f[8].n;
	c->identified = f[7].len == sizeof(c->identity);
	if (c->identified)
		memcpy(c->identity, f[7].p, f[7].len);
	return listener_door_admit(c, f[5].p, f[5].len, 0) ? 0 : -1;
}

/* The newest is the first. NULL: there is one with that number. */
static struct conn *make(struct listener *l, uint32_t id)
{
	struct conn *next = l->conns, *prev = NULL, *c;

	while (next != NULL && next->id > id) {
		prev = next;
		next = next->next;
	}
	if (id == 0 || (next != NULL && next->id == id))
		return NULL;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return NULL;
	c->listener = l;
	c->id = id;
	c->client = -1;
	c->prev = prev;
	c->next = next;
	if (next != NULL)
		next->prev = c;
	if (prev != NULL)
		prev->next = c;
	else
		l->conns = c;
	return c;
}

static void take_conn(struct reading *r, const struct proto_field *f)
{
	uint32_t id = (uint32_t)f[0].n;
	int edge = take(r->l->service, SERVICE_CONN, id, is_edge);
	struct conn *c;

	if (edge < 0)
		return; /* it is over */
	c = make(r->l, id);
	if (c == NULL) {
		close(edge);
		r->refused++;
		return;
	}
	c->client = take(r->l->service, SERVICE_CONN, id, is_client);
	c->stored = true;
	if (listener_conn_connect(c, edge) < 0 || fill(c, f) < 0) {
		listener_conn_drop(c);
		listener_store_forget(r->l, SERVICE_CONN, id);
		r->refused++;
		return;
	}
	if (f[6].n != 0)
		listener_door_resume(c);
	r->conns++;
}

/* What is said of a session that is there. */
static void take_word(struct conn *c, const struct proto_msg *m)
{
	struct proto_msg said = *m;

	memcpy(said.f, m->f + 1, sizeof(said.f) - sizeof(said.f[0]));
	switch (m->type) {
	case REGISTRY_WHO:
		if (c->who == NULL)
			listener_conn_who(c, said.f);
		break;
	case REGISTRY_LOCAL:
		if (proto_cstr(&said.f[0], c->local, sizeof(c->local)) < 0)
			c->local[0] = '\0';
		c->local_port = (unsigned)said.f[1].n;
		break;
	case REGISTRY_FILE:
		listener_watch_add(c->listener, &c->files, &said.f[0]);
		break;
	default:
		said.type = m->type == REGISTRY_LOGIN ? LISTENER_LOGIN
		                                      : LISTENER_KEY;
		listener_login_take(c, &said);
		break;
	}
}

static void take_entry(struct reading *r, const struct proto_msg *m)
{
	struct listener *l = r->l;
	uint32_t number = (uint32_t)m->f[0].n;
	struct conn *c = l->conns;
	int fd;

	switch (m->type) {
	case REGISTRY_LAST:
	case REGISTRY_CONN:
		if (number > l->last_id)
			l->last_id = number;
		if (m->type == REGISTRY_CONN)
			take_conn(r, m->f);
		break;
	case REGISTRY_WHO:
	case REGISTRY_LOCAL:
	case REGISTRY_LOGIN:
	case REGISTRY_KEY:
	case REGISTRY_FILE:
		while (c != NULL && c->id > number)
			c = c->next;
		if (c != NULL && c->id == number)
			take_word(c, m);
		break;
	default:
		if (number > l->service->last_role)
			l->service->last_role = number;
		fd = take(l->service, SERVICE_ROLE, number, is_edge);
		if (fd >= 0)
			listener_roles_adopt(l, m->f[1].n != 0 ? SESSIONS
			                     : BROKERS, (pid_t)m->f[2].n, fd,
			                     number);
		break;
	}
}

/* It goes on by itself. If its client is gone already nobody wants to know. */
static void leave(struct listener *l, struct kept *k)
{
	if (k->kind == SERVICE_CONN && is_edge(k->fd))
		log_error("connection %u is not ours to control any more: it "
		          "is not in the registry", (unsigned)k->number);
	close(k->fd);
	k->fd = -1;
	if (k->kind != SERVICE_REGISTRY)
		listener_store_forget(l, k->kind, k->number);
}

static void read_registry(struct listener *l, int fd)
{
	struct reading r = { .l = l };
	const char *why = load(&r, fd);

	if (why == NULL)
		why = each(&r, NULL);
	if (why == NULL)
		each(&r, take_entry);
	listener_door_resumed(l);
	free(r.text);
	if (why != NULL)
		log_error("the registry of the daemon before us is refused, "
		          "its sessions go on without control: %s", why);
	if (r.refused > 0)
		log_error("%u sessions of the daemon before us are refused",
		          r.refused);
	if (r.conns == 0)
		return;
	log_info("%u session%s of the daemon before us %s ours now", r.conns,
	         r.conns == 1 ? "" : "s", r.conns == 1 ? "is" : "are");
	/* the policy may be another one: they are to be reviewed */
	l->generation++;
	l->edition++;
}

void listener_adopt(struct listener *l)
{
	struct listener_service *s = l->service;
	struct kept *newest = NULL;

	for (size_t i = 0; i < s->nkept; i++)
		if (s->kept[i].kind == SERVICE_REGISTRY)
			newest = &s->kept[i];
	if (newest != NULL) {
		s->registry.number = newest->number;
		read_registry(l, newest->fd);
	}
	for (size_t i = 0; i < s->nkept; i++) {
		struct kept *k = &s->kept[i];

		if (k->kind == SERVICE_CONN && k->number > l->last_id)
			l->last_id = k->number;
		if (k->kind == SERVICE_ROLE && k->number > s->last_role)
			s->last_role = k->number;
		if (k->kind == SERVICE_REGISTRY && k != newest)
			listener_store_forget(l, k->kind, k->number);
		if (k->fd >= 0)
			leave(l, k);
	}
	free(s->kept);
	s->kept = NULL;
	s->nkept = 0;
	if (s->notify == NULL || listener_store_renew(l) < 0)
		return;
	listener_store_sockets(l);
}
