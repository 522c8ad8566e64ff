/*
 * absent: what libssh.a asks for and nothing here ever calls. GSSAPI is not
 * offered and no method of compression is, so neither a Kerberos library nor
 * zlib is in the processes that read the network.
 */
#include <stdlib.h>

/* Of their types (RFC 2744; zlib.h) only the names matter to the linker. */
#define ABSENT(name)                                                    \
	void name(void) __attribute__((visibility("hidden"), noreturn)); \
	void name(void) { abort(); }

ABSENT(gss_accept_sec_context)
ABSENT(gss_acquire_cred)
ABSENT(gss_add_oid_set_member)
ABSENT(gss_create_empty_oid_set)
ABSENT(gss_display_name)
ABSENT(gss_display_status)
ABSENT(gss_get_mic)
ABSENT(gss_import_name)
ABSENT(gss_indicate_mechs)
ABSENT(gss_init_sec_context)
ABSENT(gss_inquire_cred)
ABSENT(gss_inquire_cred_by_mech)
ABSENT(gss_release_buffer)
ABSENT(gss_release_cred)
ABSENT(gss_release_name)
ABSENT(gss_release_oid_set)
ABSENT(gss_test_oid_set_member)
ABSENT(gss_verify_mic)
ABSENT(GSS_C_NT_HOSTBASED_SERVICE)
ABSENT(GSS_C_NT_USER_NAME)

ABSENT(deflate)
ABSENT(deflateEnd)
ABSENT(deflateInit_)
ABSENT(inflate)
ABSENT(inflateEnd)
ABSENT(inflateInit_)
