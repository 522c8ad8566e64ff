/*
 * seam: libssh's functions that no installed header declares, for engine*.c
 * and pki*.c alone. All are cross-object references inside libssh's archive,
 * which configure proves. Types are opaque; enum arguments are int.
 */
#ifndef ADIT_SEAM_H
#define ADIT_SEAM_H

#include <stddef.h>
#include <stdint.h>

#include <libssh/libssh.h>

typedef struct ssh_socket_struct *ssh_socket;
typedef struct ssh_signature_struct *ssh_signature;
struct ssh_list;

int ssh_packet_send(ssh_session);
size_t ssh_packet_socket_callback(const void *, size_t, void *);
int ssh_auth_reply_success(ssh_session, int partial);
void *ssh_buffer_allocate(ssh_buffer, uint32_t);
uint32_t ssh_buffer_pass_bytes(ssh_buffer, uint32_t);
uint32_t ssh_buffer_pass_bytes_end(ssh_buffer, uint32_t);

ssh_key ssh_key_dup(const ssh_key);
int ssh_key_hash_from_name(const char *);
int ssh_pki_import_pubkey_blob(const ssh_string, ssh_key *);
int ssh_pki_import_signature_blob(const ssh_string, const ssh_key,
                                  ssh_signature *);
int ssh_pki_export_signature_blob(const ssh_signature, ssh_string *);
int ssh_pki_signature_verify(ssh_session, ssh_signature, const ssh_key,
                             const unsigned char *, size_t);
void ssh_signature_free(ssh_signature);

/* wrapped */
typedef int seam_handler(ssh_session, uint8_t, ssh_buffer, void *);
uint32_t __real_ssh_buffer_get_len(ssh_buffer);
uint32_t __wrap_ssh_buffer_get_len(ssh_buffer);
int __wrap_ssh_socket_write(ssh_socket, const void *, uint32_t);
int __real_ssh_list_append(struct ssh_list *, const void *);
int __wrap_ssh_list_append(struct ssh_list *, const void *);
seam_handler __real_ssh_packet_kexinit, __wrap_ssh_packet_kexinit,
	__real_ssh_packet_newkeys, __wrap_ssh_packet_newkeys,
	__wrap_ssh_packet_channel_open, __wrap_ssh_packet_channel_open_conf,
	__wrap_ssh_packet_channel_open_fail, __wrap_channel_rcv_data,
	__wrap_channel_rcv_eof, __wrap_channel_rcv_close,
	__wrap_channel_rcv_change_window, __wrap_channel_rcv_request,
	__wrap_ssh_packet_channel_success, __wrap_ssh_packet_channel_failure,
	__wrap_ssh_packet_global_request, __wrap_ssh_request_success,
	__wrap_ssh_request_denied, __wrap_ssh_packet_userauth_request;
int __real_ssh_send_rekex(ssh_session);
int __wrap_ssh_send_rekex(ssh_session);
int __real_ssh_packet_send_newkeys(ssh_session);
int __wrap_ssh_packet_send_newkeys(ssh_session);
int __real_server_set_kex(ssh_session);
int __wrap_server_set_kex(ssh_session);
typedef int seam_digest(const unsigned char *, size_t, unsigned char *);
seam_digest __real_sha256, __wrap_sha256, __real_sha384, __wrap_sha384,
	__real_sha512, __wrap_sha512;
int __real_ssh_get_random(void *, int, int);
int __wrap_ssh_get_random(void *, int, int);
ssh_string __real_ssh_srv_pki_do_sign_sessionid(ssh_session, const ssh_key,
                                                int);
ssh_string __wrap_ssh_srv_pki_do_sign_sessionid(ssh_session, const ssh_key,
                                                int);
ssh_signature __real_pki_sign_data(const ssh_key, int, const unsigned char *,
                                   size_t);
ssh_signature __wrap_pki_sign_data(const ssh_key, int, const unsigned char *,
                                   size_t);
int __real_ssh_pki_export_pubkey_blob(const ssh_key, ssh_string *);
int __wrap_ssh_pki_export_pubkey_blob(const ssh_key, ssh_string *);
char *__real_ssh_find_matching(const char *, const char *);
char *__wrap_ssh_find_matching(const char *, const char *);
char *__real_ssh_find_all_matching(const char *, const char *);
char *__wrap_ssh_find_all_matching(const char *, const char *);
int __real_ssh_pki_export_privkey_to_pubkey(const ssh_key, ssh_key *);
int __wrap_ssh_pki_export_privkey_to_pubkey(const ssh_key, ssh_key *);

/* pki.c, for engine.c: a public key from its blob, to be freed; NULL if it is
 * not one. */
ssh_key pki_import_blob(const uint8_t *blob, size_t len);
/* pki_warm.c, for engine.c: do one of each operation that a login needs. 0, or
 * -1: one failed. */
int seam_warm_crypto(void);

#endif
