/* listener_service.c, listener_store.c, listener_adopt.c: what the service
 * manager gave us, keeps for the next daemon, and hears of us. */
#ifndef ADIT_LISTENER_SERVICE_H
#define ADIT_LISTENER_SERVICE_H

#include "server/listener_private.h"
#include "server/notify.h"
#include "server/service.h"

/* Descriptors that it keeps are named "conn-17" and so on. */
enum service_kind { SERVICE_OTHER, SERVICE_LISTEN, SERVICE_REGISTRY,
                    SERVICE_ROLE, SERVICE_CONN, SERVICE_KINDS };
extern const char *const listener_service_names[SERVICE_KINDS];

struct kept {
	enum service_kind kind;
	uint32_t number;
	int fd; /* -1: taken */
};

/* The registry: these bytes, then entries: a length, a message of
 * edge_registry, its counts_hash(). */
#define REGISTRY_MAGIC "adit-registry 1\n"
enum { REGISTRY_MAGIC_LEN = 16, REGISTRY_LENGTH = 4,
       REGISTRY_SUM = sizeof(uint64_t),
       REGISTRY_MAX = 256 << 20 };

struct registry {
	int fd; /* -1: none */
	uint32_t number;
	off_t end;
	unsigned entries, live; /* in it; of these were live when it was new */
};

struct listener_service {
	struct listener *listener;
	struct service *given;
	struct notify *notify;
	struct loop_timer *status, *watchdog;
	bool ready;        /* READY was said */
	bool reloading;    /* RELOADING was, and not yet READY again */
	bool watchdog_due; /* as soon as every role has answered */
	struct kept *kept; /* of the daemon before us, in order */
	size_t nkept;
	struct registry registry;
	uint32_t last_role, last_socket;
};

/* listener_service.c */
/* A socket of TCP that listens. */
bool listener_service_is_server(int fd);
int listener_service_option(int fd, int option);

/* listener_store.c */
/* One entry more; arguments as for proto_encode(). -1: errno. */
int listener_store_put(struct registry *r, unsigned type, ...);
/* Begin a registry with all that is there. -1: there is none. */
int listener_store_renew(struct listener *l);
void listener_store_forget(struct listener *l, enum service_kind kind,
                           uint32_t number);

/* listener_adopt.c */
/* Of given->fds, which are closed if they are nobody's. */
int listener_adopt_sort(struct listener_service *s);

#endif
