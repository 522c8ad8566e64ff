/*
 * The control socket, from aditctl's side; answers as JSON.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "server/aditctl.h"
#include "server/log.h"

enum { ANSWER_MS = 15000, QUEUE = 4 };

/* ---- asking ---- */

static int cannot_connect(const struct ctl *c, int error)
{
	const char *advice = "";

	if (error == ENOENT)
		advice = "\nIs aditd running? Its policy may say ControlSocket "
		         "none, or another path: give that with -s.";
	else if (error == ECONNREFUSED)
		advice = "\nThe aditd that made it is gone: start aditd, or "
		         "look into its log.";
	else if (error == EACCES || error == EPERM)
		advice = "\nOnly root and the group adit may use it. Become "
		         "root, or have root say: usermod -aG adit YOU, and "
		         "log in again.";
	ctl_complain(c, "%s: %s%s", c->path, strerror(error), advice);
	return CTL_NO_DAEMON;
}

int ctl_connect(struct ctl *c)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd;

	if (c->peer != NULL)
		return CTL_OK;
	if (strlen(c->path) >= sizeof(sun.sun_path))
		return cannot_connect(c, ENAMETOOLONG);
	strcpy(sun.sun_path, c->path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return cannot_connect(c, errno);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
		int error = errno;

		close(fd);
		return cannot_connect(c, error);
	}
	c->peer = ipc_peer_new(fd, &edge_listener_to_control,
	                       &edge_control_to_listener, QUEUE);
	return c->peer != NULL ? CTL_OK : cannot_connect(c, ENOMEM);
}

static int went_away(struct ctl *c, const char *why)
{
	ctl_complain(c, "aditd %s", why != NULL ? why :
	             "closed the connection: it ended, or is of another "
	             "version than this aditctl, or it does not let you (its "
	             "log says why)");
	ipc_peer_free(c->peer);
	c->peer = NULL;
	return CTL_BROKEN;
}

static int finish(struct ctl *c, const struct proto_msg *m)
{
	c->count = m->f[2].n;
	if (proto_cstr(&m->f[3], c->text, sizeof(c->text)) < 0)
		c->text[0] = '\0';
	return m->f[1].n == CONTROL_OK ? CTL_OK : CTL_NO;
}

int ctl_ask(struct ctl *c, void (*row)(void *arg, struct proto_msg *m),
            void *arg, unsigned type, ...)
{
	struct proto_msg m;
	const char *why = NULL;
	va_list ap;
	int rc = ctl_connect(c);

	if (rc != CTL_OK)
		return rc;
	va_start(ap, type);
	rc = ipc_vsend(c->peer, NULL, 0, type, ap);
	va_end(ap);
	if (rc < 0)
		return went_away(c, NULL);
	/* A drain says how it goes on; anything else is quick. */
	while ((rc = ipc_recv_wait(c->peer, ANSWER_MS, &m, &why)) > 0) {
		if (m.type == CONTROL_DONE)
			return finish(c, &m);
		row(arg, &m);
		ipc_msg_close(&m);
	}
	return went_away(c, rc == 0 ? "does not answer" :
	                 why != NULL ? "answers what this aditctl does not "
	                               "understand" : NULL);
}

/* ---- answers as JSON ---- */

/* What came from the network may be no UTF-8: then it is escaped. */
static json_t *text_of(const struct proto_field *f)
{
	char shown[4 * 4096 + 1];
	json_t *s = json_stringn((const char *)f->p, f->len);

	if (s != NULL)
		return s;
	return json_string(log_escape(shown, sizeof(shown), f->p, f->len));
}

static void put(json_t *o, const char *key, json_t *value)
{
	json_object_set_new(o, key, value);
}

static void put_number(json_t *o, const char *key, uint64_t n)
{
	put(o, key, n == UINT64_MAX ? json_null()
	                            : json_integer((json_int_t)n));
}

static void put_bytes(json_t *o, bool counted, uint64_t up, uint64_t down)
{
	put_number(o, "bytes_up", counted ? up : UINT64_MAX);
	put_number(o, "bytes_down", counted ? down : UINT64_MAX);
}

static void put_since(json_t *o, uint64_t age_ms)
{
	put(o, "since", json_integer((json_int_t)((uint64_t)time(NULL) -
	                                          age_ms / 1000)));
}

static void add(json_t *all, const char *list, json_t *o)
{
	json_t *a = json_object_get(all, list);

	if (a == NULL) {
		a = json_array();
		json_object_set_new(all, list, a);
	}
	json_array_append_new(a, o);
}

static void put_fact(json_t *all, const struct proto_msg *m)
{
	char key[64];
	json_t *v;

	if (proto_cstr(&m->f[1], key, sizeof(key)) < 0)
		return;
	switch (m->f[2].n) {
	case CONTROL_NUMBER: v = json_integer((json_int_t)m->f[3].n); break;
	case CONTROL_BOOL: v = json_boolean(m->f[3].n != 0); break;
	case CONTROL_ITEM: add(all, key, text_of(&m->f[4])); return;
	default: v = text_of(&m->f[4]); break;
	}
	json_object_set_new(all, key, v);
}

static json_t *certificate(const struct proto_field *f)
{
	json_t *o;

	if (f[2].len == 0)
		return json_null();
	o = json_object();
	put(o, "id", text_of(&f[0]));
	put_number(o, "serial", f[1].n);
	put(o, "ca", text_of(&f[2]));
	return o;
}

static json_t *session(const struct proto_field *f)
{
	json_t *o = json_object();
	bool open = f[2].n != 0;

	put(o, "id", json_integer((json_int_t)f[1].n));
	put(o, "state", json_string(open ? "open" : "login"));
	put(o, "user", open ? text_of(&f[11]) : json_null());
	put(o, "address", text_of(&f[3]));
	put(o, "port", json_integer((json_int_t)f[4].n));
	put_since(o, open ? f[6].n : f[5].n);
	put_number(o, "idle_s", f[8].n != 0 ? f[7].n / 1000 : UINT64_MAX);
	put_bytes(o, f[8].n != 0, f[9].n, f[10].n);
	put(o, "key_type", text_of(&f[12]));
	put(o, "key", text_of(&f[13]));
	put(o, "comment", text_of(&f[14]));
	put(o, "certificate", certificate(&f[15]));
	put(o, "rule", text_of(&f[18]));
	put(o, "client", text_of(&f[19]));
	put(o, "cipher", text_of(&f[20]));
	return o;
}

static const char *const kinds[] = { "direct-tcpip", "direct-streamlocal",
	"forwarded-tcpip", "forwarded-streamlocal", "tcpip-forward",
	"streamlocal-forward", "tunnel" };
enum { TUNNEL = 6, KINDS = 7 };

static void put_thing(json_t *all, const struct proto_field *f)
{
	json_t *o = json_object();
	bool tunnel = f[3].n == TUNNEL;
	char id[32];

	snprintf(id, sizeof(id), "%u.%u", (unsigned)f[1].n, (unsigned)f[2].n);
	put(o, "id", json_string(id));
	put(o, "session", json_integer((json_int_t)f[1].n));
	put(o, "user", json_null());
	if (tunnel) {
		put(o, "device", text_of(&f[4]));
	} else {
		put(o, "kind", json_string(f[3].n < KINDS ? kinds[f[3].n]
		                                          : "other"));
		put(o, "host", text_of(&f[4]));
		put_number(o, "port", f[5].n != 0 ? f[5].n : UINT64_MAX);
		put(o, "address", f[6].len > 0 ? text_of(&f[6]) : json_null());
		put_number(o, "address_port", f[7].n != 0 ? f[7].n
		                                          : UINT64_MAX);
	}
	put_since(o, f[8].n);
	put_bytes(o, f[9].n != 0, f[11].n, f[10].n);
	add(all, tunnel ? "tunnels" : "forwards", o);
}

static void put_use(json_t *all, const struct proto_field *f)
{
	json_t *o = json_object();

	put(o, "limit", text_of(&f[1]));
	put_number(o, "session", f[3].n != 0 ? f[3].n : UINT64_MAX);
	put(o, "of", f[2].len > 0 ? text_of(&f[2]) : json_null());
	put_number(o, "now", f[4].n);
	put_number(o, "max", f[5].n);
	put_number(o, "refused", f[6].n);
	add(all, "limits", o);
}

static void put_penalty(json_t *all, const struct proto_field *f)
{
	json_t *o = json_object();

	put(o, "source", text_of(&f[1]));
	put(o, "kept_out", json_boolean(f[2].n != 0));
	put_number(o, "left_s", (f[3].n + 999) / 1000);
	put(o, "why", text_of(&f[4]));
	add(all, "penalties", o);
}

void ctl_collect(void *all, struct proto_msg *m)
{
	switch (m->type) {
	case CONTROL_FACT: put_fact(all, m); break;
	case CONTROL_SESSION: add(all, "sessions", session(m->f)); break;
	case CONTROL_THING: put_thing(all, m->f); break;
	case CONTROL_USE: put_use(all, m->f); break;
	case CONTROL_PENALTY: put_penalty(all, m->f); break;
	case CONTROL_SILENT:
		add(all, "silent", json_integer((json_int_t)m->f[1].n));
		break;
	default: break;
	}
}

static void name_user(json_t *row, const json_t *sessions)
{
	json_t *id = json_object_get(row, "session"), *s;
	size_t i;

	json_array_foreach(sessions, i, s)
		if (json_equal(json_object_get(s, "id"), id))
			json_object_set(row, "user",
			                json_object_get(s, "user"));
}

void ctl_name_users(json_t *all)
{
	static const char *const lists[] = { "forwards", "tunnels" };
	const json_t *sessions = json_object_get(all, "sessions");
	json_t *row;
	size_t i;

	for (int l = 0; l < 2; l++)
		json_array_foreach(json_object_get(all, lists[l]), i, row)
			name_user(row, sessions);
}
