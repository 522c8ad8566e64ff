/* What may be hashed: an exchange of keys with this server, under the cookie
 * that it was given, and nothing else. */
#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "tests/exchange.h"

enum { PLACES = 8 };

static const uint8_t cookie[] = "0123456789abcdef";
static const struct exchange ours = { EXCHANGE_VERSION, cookie,
	(const uint8_t *)"hostkey", 7 };
static uint8_t hash[HASHES_LEN_MAX];

/* In memory of exactly that size, for a sanitizer's sake. */
static const char *check_with(const struct exchange *x, const uint8_t *p,
                              size_t len, size_t hash_len)
{
	uint8_t *own = malloc(len > 0 ? len : 1);
	const char *why;

	memcpy(own, p, len);
	why = exchange_hash(x, own, len, hash_len, hash);
	free(own);
	return why;
}

static const char *check(const uint8_t *p, size_t len)
{
	return check_with(&ours, p, len, 32);
}

#define refused(p, len, text) do {                                             \
	const char *why_ = check(p, len);                                      \
	cr_assert_not_null(why_);                                              \
	cr_expect_str_eq(why_, text);                                          \
} while (0)

Test(exchange, each_digest_by_its_length)
{
	uint8_t p[512], md[64];
	size_t len = exchange_make(p, &ours, "k", 1);
	const struct { size_t len; const EVP_MD *md; } known[] = {
		{ 32, EVP_sha256() }, { 48, EVP_sha384() },
		{ 64, EVP_sha512() } };

	for (size_t i = 0; i < 3; i++) {
		cr_expect_null(check_with(&ours, p, len, known[i].len));
		EVP_Digest(p, len, md, NULL, known[i].md, NULL);
		cr_expect_arr_eq(hash, md, known[i].len);
	}
	for (size_t n = 0; n < 300; n++)
		if (n != 32 && n != 48 && n != 64)
			cr_expect_str_eq(check_with(&ours, p, len, n),
			                 "not an exchange hash");
}

Test(exchange, truncated_at_every_byte)
{
	uint8_t p[512];
	size_t len = exchange_make(p, &ours, "a secret", 8);

	for (size_t n = 0; n < len; n++)
		refused(p, n, "malformed key exchange");
	cr_expect_null(check(p, len));
}

Test(exchange, nothing_after_the_secret)
{
	uint8_t p[512] = { 0 };
	size_t len = exchange_make(p, &ours, "k", 1);

	for (size_t n = len + 1; n < len + 20; n++)
		refused(p, n, "malformed key exchange");
}

Test(exchange, lengths_that_lie)
{
	uint8_t p[512];
	size_t len = exchange_make(p, &ours, "k", 1), at = 0;

	for (int i = 0; i < PLACES; i++) {
		size_t n = (size_t)p[at + 2] << 8 | p[at + 3];

		for (size_t bit = 0; bit < 32; bit++) {
			p[at + 3 - bit / 8] ^= (uint8_t)(1 << bit % 8);
			cr_expect_not_null(check(p, len));
			p[at + 3 - bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		at += 4 + n;
	}
	cr_assert_eq(at, len);
	cr_expect_null(check(p, len));
}

Test(exchange, no_other_version)
{
	static const char *const others[] = { "", "SSH-2.0-", "SSH-2.0-adit_",
		EXCHANGE_VERSION "0", EXCHANGE_VERSION "\t",
		"SSH-2.0-OpenSSH_9.2", "SSH-1.99-adit_" PACKAGE_VERSION,
		" " EXCHANGE_VERSION };
	struct exchange x = ours;
	uint8_t p[512];

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		x.version = others[i];
		refused(p, exchange_make(p, &x, "k", 1),
		        "key exchange of another server's version");
	}
	x.version = EXCHANGE_VERSION " Debian-1";
	cr_expect_null(check(p, exchange_make(p, &x, "k", 1)));
}

Test(exchange, no_other_cookie)
{
	uint8_t p[512], other[EXCHANGE_COOKIE_LEN];
	struct exchange x = ours;

	x.cookie = other;
	for (size_t bit = 0; bit < 8 * sizeof(other); bit++) {
		memcpy(other, cookie, sizeof(other));
		other[bit / 8] ^= (uint8_t)(1 << bit % 8);
		refused(p, exchange_make(p, &x, "k", 1),
		        "key exchange without this connection's cookie");
	}
}

/* The cookie elsewhere, or in what is no SSH_MSG_KEXINIT. */
Test(exchange, no_other_place_for_it)
{
	static const uint8_t kexinit[] = "\x14" "0123456789abcdef";
	static const struct { const void *p; size_t len; } i_s[] = {
		{ "", 0 }, { kexinit, 1 }, { kexinit, 16 }, { cookie, 16 },
		{ "\x15" "0123456789abcdef", 17 },
		{ "\x14\0" "0123456789abcdef", 18 } };
	uint8_t p[512];

	for (size_t i = 0; i <= sizeof(i_s) / sizeof(i_s[0]); i++) {
		bool good = i == sizeof(i_s) / sizeof(i_s[0]);
		size_t n = 0;

		exchange_put(p, &n, kexinit, 17);
		exchange_put(p, &n, EXCHANGE_VERSION, strlen(EXCHANGE_VERSION));
		exchange_put(p, &n, kexinit, 17);
		exchange_put(p, &n, good ? kexinit : i_s[i].p,
		             good ? 17 : i_s[i].len);
		exchange_put(p, &n, ours.hostkey, ours.hostkey_len);
		for (int j = 0; j < 3; j++)
			exchange_put(p, &n, kexinit, 17);
		if (good)
			cr_expect_null(check(p, n));
		else
			refused(p, n, "key exchange without this connection's "
			        "cookie");
	}
}

Test(exchange, no_other_host_key)
{
	static const char *const others[] = { "", "hostke", "hostkeY",
		"hostkeys" };
	struct exchange x = ours;
	uint8_t p[512];

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		x.hostkey = (const uint8_t *)others[i];
		x.hostkey_len = strlen(others[i]);
		refused(p, exchange_make(p, &x, "k", 1),
		        "key exchange with another host key");
	}
}

Test(exchange, which_host_key)
{
	uint8_t p[512], *own;
	size_t len = exchange_make(p, &ours, "k", 1), n, end = 0;
	const uint8_t *k_s = exchange_hostkey(p, len, &n);

	cr_assert_not_null(k_s);
	cr_assert_eq(n, ours.hostkey_len);
	cr_expect_arr_eq(k_s, ours.hostkey, n);
	end = (size_t)(k_s - p) + n;
	for (size_t i = 0; i < len; i++) {
		own = malloc(i > 0 ? i : 1);
		memcpy(own, p, i);
		k_s = exchange_hostkey(own, i, &n);
		cr_expect_eq(k_s != NULL, i >= end, "%zu", i);
		free(own);
	}
}

Test(exchange, up_to_a_size)
{
	static uint8_t p[2 * EXCHANGE_MAX], secret[2 * EXCHANGE_MAX];
	size_t empty = exchange_make(p, &ours, secret, 0), most;

	most = EXCHANGE_MAX - empty;
	cr_expect_null(check(p, empty));
	cr_expect_null(check(p, exchange_make(p, &ours, secret, most)));
	refused(p, exchange_make(p, &ours, secret, most + 1),
	        "key exchange too large");
}

/* A SSH_MSG_KEXINIT with those two lists of ciphers. */
static void put_kexinit(uint8_t *p, size_t *at, const char *up,
                        const char *down)
{
	uint8_t init[12000] = { 20 };
	size_t n = 1 + EXCHANGE_COOKIE_LEN;

	memcpy(init + 1, cookie, EXCHANGE_COOKIE_LEN);
	exchange_put(init, &n, "kex", 3);
	exchange_put(init, &n, "hostkey", 7);
	exchange_put(init, &n, up, strlen(up));
	exchange_put(init, &n, down, strlen(down));
	exchange_put(p, at, init, n);
}

static struct exchange_told told_of(const char *version, const char *up,
                                    const char *down, const char *ours_up,
                                    const char *ours_down)
{
	static uint8_t p[60000];
	struct exchange_told told;
	size_t n = 0;

	exchange_put(p, &n, version, strlen(version));
	exchange_put(p, &n, EXCHANGE_VERSION, strlen(EXCHANGE_VERSION));
	put_kexinit(p, &n, up, down);
	put_kexinit(p, &n, ours_up, ours_down);
	exchange_told(p, n, &told);
	return told;
}

Test(exchange, what_was_agreed_on)
{
	static char many[10000], version[600];
	struct exchange_told t;

	t = told_of("SSH-2.0-x", "none,b,a", "b", "a,b", "a,b");
	cr_expect_str_eq(t.version, "SSH-2.0-x");
	cr_expect_str_eq(t.cipher, "b");
	t = told_of("", "a,b", ",,b", "a,b", "b,a");
	cr_expect_str_eq(t.cipher, "a/b");
	t = told_of("", "aa,bb", "", "a,b", "aaa");
	cr_expect_str_eq(t.cipher, "");
	memset(many, ',', sizeof(many) - 1);
	memset(version, 'v', sizeof(version) - 1);
	t = told_of(version, many, "a", "a", "a");
	cr_expect_str_eq(t.cipher, "/a");
	cr_expect_eq(strlen(t.version), sizeof(t.version) - 1);
	exchange_told((const uint8_t *)"", 0, &t);
	cr_expect_str_eq(t.cipher, "");
}
