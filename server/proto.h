/*
 * proto: the codec of messages between adit's processes. It does no I/O.
 *
 * A message is: u8 protocol version, u16 type, then the fields that the
 * type's rule names, big-endian, nothing after them. Every edge (pair of
 * processes) has one const table of rules per direction; what the table does
 * not allow in the present phase is refused before any handler runs.
 */
#ifndef ADIT_PROTO_H
#define ADIT_PROTO_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROTO_VERSION = 1, PROTO_MSG_MAX = 16384, PROTO_FIELDS_MAX = 24,
       PROTO_FDS_MAX = 6 };

struct proto_rule {
	uint16_t type;
	const char *name;
	const char *fields;  /* b u8, h u16, w u32, q u64, s u32 and bytes */
	uint16_t string_max; /* longest any one string may be, bytes */
	uint8_t nfds;        /* file descriptors that come with it, exactly */
	uint32_t phases;     /* bit mask of the phases it is allowed in */
	bool once;           /* at most once per peer */
};
struct proto_table {
	const char *edge; /* "session -> broker" */
	const struct proto_rule *rules;
	size_t n; /* at most 64 */
};

struct proto_field {
	uint64_t n;       /* b h w q */
	const uint8_t *p; /* s: in the received buffer, not terminated */
	size_t len;
};
struct proto_msg {
	const struct proto_rule *rule;
	uint16_t type;
	struct proto_field f[PROTO_FIELDS_MAX];
	unsigned nf;
	int fds[PROTO_FDS_MAX]; /* the receiver's; -1 when taken */
	unsigned nfds;
};

/* Decode buf[0..len), which arrived with nfds descriptors. seen is the peer's
 * bit set of rules used (for once). Returns 0; -1 with *why a static text. */
int proto_decode(const struct proto_table *t, uint32_t phase, uint64_t *seen,
                 const uint8_t *buf, size_t len, unsigned nfds,
                 struct proto_msg *msg, const char **why);

/* Encode a message of the given type. Arguments follow the rule's fields:
 * b h w as unsigned int, q as uint64_t, s as (const void *, size_t). Returns
 * its length, or -1 if the type is unknown, an argument too large for its
 * field, a string too long or buf too small. */
ssize_t proto_encode(const struct proto_table *t, uint8_t *buf, size_t cap,
                     unsigned type, ...);
ssize_t proto_vencode(const struct proto_table *t, uint8_t *buf, size_t cap,
                      unsigned type, va_list ap);

/* Copy a string field to a NUL-terminated buffer. Returns 0, or -1 if it has
 * a NUL inside or does not fit. */
int proto_cstr(const struct proto_field *f, char *buf, size_t cap);

#endif
