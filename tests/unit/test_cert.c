/* Certificates and lists of revoked keys, byte by byte. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "server/cert.h"
#include "server/revoked.h"

struct out {
	uint8_t b[4096];
	size_t n;
};

static void raw(struct out *o, const void *p, size_t n)
{
	if (n > 0)
		memcpy(o->b + o->n, p, n);
	o->n += n;
}

static void u32(struct out *o, uint32_t v)
{
	uint8_t b[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16),
		(uint8_t)(v >> 8), (uint8_t)v };

	raw(o, b, 4);
}

static void u64(struct out *o, uint64_t v)
{
	u32(o, (uint32_t)(v >> 32));
	u32(o, (uint32_t)v);
}

static void bytes(struct out *o, const void *p, size_t n)
{
	u32(o, (uint32_t)n);
	raw(o, p, n);
}

static void str(struct out *o, const char *s)
{
	bytes(o, s, strlen(s));
}

static void packed(struct out *o, const struct out *inner)
{
	bytes(o, inner->b, inner->n);
}

/* ---- certificates ---- */

static const uint8_t thirty_two[32] = { 1, 2, 3 };

struct recipe {
	const char *type, *names[3];
	const char *fields[3];
	size_t lens[3];
	uint32_t kind;
	const char *ca;
};

static const struct recipe usual = {
	.type = "ssh-ed25519-cert-v01@openssh.com",
	.names = { "alice", "b,c", NULL },
	.fields = { (const char *)thirty_two }, .lens = { 32 },
	.kind = CERT_USER, .ca = "ssh-ed25519"
};

static void make(struct out *o, const struct recipe *r)
{
	struct out names = { .n = 0 }, ca = { .n = 0 }, options = { .n = 0 };

	o->n = 0;
	for (int i = 0; i < 3 && r->names[i] != NULL; i++)
		str(&names, r->names[i]);
	str(&ca, r->ca);
	bytes(&ca, thirty_two, 32);
	str(&options, "permit-pty");
	str(&options, "");
	str(o, r->type);
	str(o, "nonce");
	for (int i = 0; i < 3 && r->fields[i] != NULL; i++)
		bytes(o, r->fields[i], r->lens[i]);
	u64(o, 0x0102030405060708);
	u32(o, r->kind);
	str(o, "id");
	packed(o, &names);
	u64(o, 1000);
	u64(o, 2000);
	str(o, "");
	packed(o, &options);
	str(o, "");
	packed(o, &ca);
	str(o, "signature");
}

static const char *parse(const struct recipe *r)
{
	struct out o;
	struct cert c;

	make(&o, r);
	return cert_parse(o.b, o.n, &c);
}

Test(cert, is_taken_apart)
{
	struct out o, key = { .n = 0 };
	uint8_t plain[256];
	struct cert c;

	make(&o, &usual);
	cr_assert(cert_is(o.b, o.n));
	cr_assert_null(cert_parse(o.b, o.n, &c));
	cr_expect_eq(c.serial, 0x0102030405060708);
	cr_expect_eq(c.type, CERT_USER);
	cr_expect(wire_is(c.id.p, c.id.len, "id"));
	cr_expect_eq(c.valid_after, 1000);
	cr_expect_eq(c.valid_before, 2000);
	cr_expect_eq(c.extensions.len, 18);
	cr_expect(wire_is(c.signature.p, c.signature.len, "signature"));
	cr_expect_eq(c.is_signed.len, o.n - 13);
	str(&key, "ssh-ed25519");
	bytes(&key, thirty_two, 32);
	cr_expect_eq(cert_key(&c, plain, sizeof(plain)), key.n);
	cr_expect_arr_eq(plain, key.b, key.n);
	cr_expect_eq(cert_key(&c, plain, key.n - 1), 0);
}

Test(cert, names_are_whole)
{
	struct out o;
	struct cert c;

	make(&o, &usual);
	cr_assert_null(cert_parse(o.b, o.n, &c));
	cr_expect(cert_names(&c, "alice", 5));
	cr_expect(cert_names(&c, "b,c", 3));
	cr_expect_not(cert_names(&c, "b", 1));
	cr_expect_not(cert_names(&c, "alic", 4));
	cr_expect_not(cert_names(&c, "", 0));
}

Test(cert, time_and_kind)
{
	struct recipe host = usual;
	struct out o;
	struct cert c;

	make(&o, &usual);
	cert_parse(o.b, o.n, &c);
	cr_expect_not_null(strstr(cert_refused(&c, 999), "not yet"));
	cr_expect_null(cert_refused(&c, 1000));
	cr_expect_null(cert_refused(&c, 1999));
	cr_expect_not_null(strstr(cert_refused(&c, 2000), "expired"));
	host.kind = CERT_HOST;
	make(&o, &host);
	cr_assert_null(cert_parse(o.b, o.n, &c));
	cr_expect_not_null(strstr(cert_refused(&c, 1500), "not a user"));
}

/* Each cut and each byte, in memory of exactly its size. */
Test(cert, cut_and_changed)
{
	struct out o;
	struct cert c;

	make(&o, &usual);
	for (size_t n = 0; n < o.n; n++) {
		uint8_t *exact = malloc(n > 0 ? n : 1);

		memcpy(exact, o.b, n);
		cr_expect_not_null(cert_parse(exact, n, &c), "%zu", n);
		free(exact);
	}
	for (size_t i = 0; i < o.n; i++) {
		uint8_t was = o.b[i];

		for (int v = 0; v < 256; v += 51) {
			o.b[i] = (uint8_t)v;
			if (cert_parse(o.b, o.n, &c) == NULL)
				cert_names(&c, "alice", 5);
		}
		o.b[i] = was;
	}
	o.b[o.n] = 0;
	cr_expect_not_null(cert_parse(o.b, o.n + 1, &c), "a byte behind it");
}

Test(cert, what_is_refused)
{
	struct recipe r = usual;

	cr_assert_null(parse(&r));
	r.kind = 3;
	cr_expect_not_null(parse(&r), "kind");
	r = usual;
	r.ca = "ssh-rsa-cert-v01@openssh.com";
	cr_expect_not_null(strstr(parse(&r), "by a certificate"));
	r = usual;
	r.lens[0] = 31;
	cr_expect_not_null(parse(&r), "length");
	r = usual;
	r.type = "ssh-ed25519";
	cr_expect_str_eq(parse(&r), "not a certificate");
	r.type = "ssh-dss-cert-v01@openssh.com";
	cr_expect_str_eq(parse(&r), "not a certificate");
}

/* What is read up to a NUL by one is read past it by another. */
Test(cert, no_text_has_a_nul)
{
	static const char *const texts[] = { "alice", "b,c", "permit-pty" };
	struct recipe r = usual;
	struct out o;
	struct cert c;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		uint8_t *at;

		make(&o, &r);
		at = memmem(o.b, o.n, texts[i], strlen(texts[i]));
		cr_assert_not_null(at);
		at[1] = '\0';
		cr_expect_not_null(cert_parse(o.b, o.n, &c), "%s", texts[i]);
	}
	r.type = "sk-ssh-ed25519-cert-v01@openssh.com";
	r.fields[1] = "ssh:\0x";
	r.lens[1] = 4;
	cr_expect_null(parse(&r));
	r.lens[1] = 6;
	cr_expect_not_null(parse(&r), "the application");
}

/* One key has one spelling, or a list of revoked ones could be evaded. */
Test(cert, numbers_and_points_in_one_form)
{
	static const struct {
		const char *n;
		size_t len;
		bool good;
	} numbers[] = {
		{ "\x01\x00\x01", 3, true }, { "\0\x81", 2, true },
		{ "\0\x01", 2, false }, { "\0", 1, false }, { "", 0, false },
		{ "\x81", 1, false }, { "\0\0\x81", 3, false },
	};
	struct recipe r = usual;
	char point[65] = { 4 };

	r.type = "ssh-rsa-cert-v01@openssh.com";
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		r.fields[0] = "\x03";
		r.lens[0] = 1;
		r.fields[1] = numbers[i].n;
		r.lens[1] = numbers[i].len;
		cr_expect_eq(parse(&r) == NULL, numbers[i].good, "%zu", i);
	}
	r.type = "ecdsa-sha2-nistp256-cert-v01@openssh.com";
	r.fields[0] = "nistp256";
	r.lens[0] = 8;
	r.fields[1] = point;
	r.lens[1] = 65;
	cr_expect_null(parse(&r));
	point[0] = 2;
	cr_expect_not_null(parse(&r), "compressed");
	point[0] = 4;
	r.fields[0] = "nistp384";
	cr_expect_not_null(parse(&r), "the other curve");
}

Test(cert, algorithms)
{
	const char *type;

	cr_expect_str_eq(cert_algorithm("rsa-sha2-256-cert-v01@openssh.com",
	                                &type), "rsa-sha2-256");
	cr_expect_str_eq(type, "ssh-rsa-cert-v01@openssh.com");
	cr_expect_str_eq(cert_algorithm("sk-ssh-ed25519-cert-v01@openssh.com",
	                                &type), "sk-ssh-ed25519@openssh.com");
	cr_expect_null(cert_algorithm("ssh-rsa-cert-v01@openssh.com", &type));
	cr_expect_null(cert_algorithm("ssh-ed25519", &type));
}

/* ---- lists of revoked keys ---- */

static const uint8_t key[] = "\0\0\0\3keymaterial";
static const uint8_t ca[] = "\0\0\0\2camaterial";
static const struct krl_subject nobody = { (const uint8_t *)"\0\0\0\1x", 5,
	(const uint8_t *)"\0\0\0\1y", 5, 0, (const uint8_t *)"", 0 };

static bool good_signature(const uint8_t *k, size_t k_len, const uint8_t *sig,
                           size_t sig_len, const uint8_t *data, size_t len)
{
	(void)k, (void)k_len, (void)data, (void)len;
	return sig_len == 4 && memcmp(sig, "good", 4) == 0;
}

static void krl_head(struct out *o)
{
	o->n = 0;
	raw(o, "SSHKRL\n", 8);
	u32(o, 1);
	u64(o, 5);
	u64(o, 1700000000);
	u64(o, 0);
	str(o, "");
	str(o, "a comment");
}

static void section(struct out *o, uint8_t type, const struct out *inner)
{
	raw(o, &type, 1);
	packed(o, inner);
}

static struct krl_subject subject(uint64_t serial, const char *id)
{
	return (struct krl_subject){ key, sizeof(key), ca, sizeof(ca), serial,
		(const uint8_t *)id, strlen(id) };
}

static bool revokes(const struct out *o, uint64_t serial, const char *id)
{
	struct krl_subject who = subject(serial, id);
	bool revoked = true;
	const char *why = krl_check(o->b, o->n, &who, good_signature,
	                            &revoked);

	cr_expect_null(why, "%s", why);
	return revoked;
}

static const char *error_of(const struct out *o)
{
	bool revoked;

	return krl_check(o->b, o->n, &nobody, good_signature, &revoked);
}

/* Certificates of CA of (NULL: of all) by one section. */
static void of_ca(struct out *o, const uint8_t *of, size_t len, uint8_t type,
                  const struct out *inner)
{
	struct out part = { .n = 0 };

	bytes(&part, of, of != NULL ? len : 0);
	str(&part, "");
	section(&part, type, inner);
	krl_head(o);
	section(o, 1, &part);
}

Test(krl, serials)
{
	struct out o, in = { .n = 0 };

	u64(&in, 7);
	u64(&in, UINT64_MAX);
	of_ca(&o, ca, sizeof(ca), 0x20, &in);
	cr_expect(revokes(&o, 7, ""));
	cr_expect(revokes(&o, UINT64_MAX, ""));
	cr_expect_not(revokes(&o, 8, ""));
	cr_expect_not(revokes(&o, 0, ""));
	of_ca(&o, key, sizeof(key), 0x20, &in);
	cr_expect_not(revokes(&o, 7, ""), "another CA's");
	of_ca(&o, NULL, 0, 0x20, &in);
	cr_expect(revokes(&o, 7, ""), "every CA's");
	u64(&in, 0);
	of_ca(&o, ca, sizeof(ca), 0x20, &in);
	cr_expect_not_null(error_of(&o), "serial 0");
}

Test(krl, ranges)
{
	struct out o, in = { .n = 0 };

	u64(&in, 10);
	u64(&in, 20);
	of_ca(&o, ca, sizeof(ca), 0x21, &in);
	cr_expect_not(revokes(&o, 9, ""));
	cr_expect(revokes(&o, 10, ""));
	cr_expect(revokes(&o, 20, ""));
	cr_expect_not(revokes(&o, 21, ""));
	in.n = 0;
	u64(&in, 20);
	u64(&in, 10);
	of_ca(&o, ca, sizeof(ca), 0x21, &in);
	cr_expect_not_null(error_of(&o), "backwards");
	in.n = 0;
	u64(&in, 20);
	of_ca(&o, ca, sizeof(ca), 0x21, &in);
	cr_expect_not_null(error_of(&o), "half");
	in.n = 0;
	of_ca(&o, ca, sizeof(ca), 0x21, &in);
	cr_expect_not_null(error_of(&o), "none");
}

Test(krl, bitmaps)
{
	struct out o, in = { .n = 0 };

	u64(&in, 100);
	bytes(&in, "\x01\x00\x05", 3); /* 0, 2, 16 */
	of_ca(&o, ca, sizeof(ca), 0x22, &in);
	for (uint64_t i = 98; i < 120; i++)
		cr_expect_eq(revokes(&o, i, ""),
		             i == 100 || i == 102 || i == 116, "%d", (int)i);
	in.n = 0;
	u64(&in, UINT64_MAX);
	bytes(&in, "\x02", 1);
	of_ca(&o, ca, sizeof(ca), 0x22, &in);
	cr_expect_not_null(error_of(&o), "past the last serial");
	in.n = 0;
	u64(&in, 1);
	bytes(&in, "\x81", 1);
	of_ca(&o, ca, sizeof(ca), 0x22, &in);
	cr_expect_not_null(error_of(&o), "negative");
}

Test(krl, ids)
{
	struct out o, in = { .n = 0 };

	str(&in, "bob");
	str(&in, "eve");
	of_ca(&o, NULL, 0, 0x23, &in);
	cr_expect(revokes(&o, 0, "eve"));
	cr_expect_not(revokes(&o, 0, "ev"));
	of_ca(&o, NULL, 0, 0x24, &in);
	cr_expect_not_null(error_of(&o), "unknown section");
}

Test(krl, keys_and_fingerprints)
{
	static const struct {
		uint8_t type;
		const uint8_t *p;
		size_t len;
	} rows[] = { { 2, key, sizeof(key) }, { 2, ca, sizeof(ca) },
		{ 3, key, sizeof(key) }, { 3, ca, sizeof(ca) },
		{ 5, key, sizeof(key) }, { 5, ca, sizeof(ca) } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct out o, in = { .n = 0 };
		uint8_t md[64];
		unsigned n = 0;

		if (rows[i].type == 2)
			bytes(&in, rows[i].p, rows[i].len);
		else if (EVP_Digest(rows[i].p, rows[i].len, md, &n,
		                    rows[i].type == 3 ? EVP_sha1()
		                                      : EVP_sha256(),
		                    NULL) == 1)
			bytes(&in, md, n);
		krl_head(&o);
		section(&o, rows[i].type, &in);
		cr_expect(revokes(&o, 0, ""), "%zu", i);
		in.b[in.n - 1] ^= 1;
		krl_head(&o);
		section(&o, rows[i].type, &in);
		cr_expect_not(revokes(&o, 0, ""), "%zu", i);
		if (rows[i].type != 2) {
			in.n = 0;
			bytes(&in, md, n - 1);
			krl_head(&o);
			section(&o, rows[i].type, &in);
			cr_expect_not_null(error_of(&o), "%zu: short", i);
		}
	}
}

Test(krl, signatures)
{
	static const uint8_t four = 4;
	struct out o, in = { .n = 0 };

	bytes(&in, key, sizeof(key));
	krl_head(&o);
	section(&o, 2, &in);
	raw(&o, &four, 1);
	bytes(&o, ca, sizeof(ca));
	str(&o, "good");
	cr_expect(revokes(&o, 0, ""));
	section(&o, 2, &in);
	cr_expect_not_null(error_of(&o), "a section behind it");
	krl_head(&o);
	raw(&o, &four, 1);
	bytes(&o, ca, sizeof(ca));
	str(&o, "evil");
	cr_expect_not_null(strstr(error_of(&o), "wrong signature"));
	krl_head(&o);
	section(&o, 2, &in);
	raw(&o, &four, 1);
	bytes(&o, key, sizeof(key));
	str(&o, "good");
	cr_expect_not_null(strstr(error_of(&o), "revoked key"));
}

/* A cut between two sections leaves a list; everywhere else it is noticed. */
Test(krl, cut_and_changed)
{
	struct out o, in = { .n = 0 }, ids = { .n = 0 };
	size_t whole[3];

	u64(&in, 7);
	str(&ids, "bob");
	krl_head(&o);
	whole[0] = o.n;
	of_ca(&o, ca, sizeof(ca), 0x20, &in);
	whole[1] = o.n;
	section(&o, 2, &ids);
	whole[2] = o.n;
	for (size_t n = 0; n <= o.n; n++) {
		bool good = n == whole[0] || n == whole[1] || n == whole[2];
		uint8_t *exact = malloc(n > 0 ? n : 1);
		bool revoked;

		memcpy(exact, o.b, n);
		cr_expect_eq(krl_check(exact, n, &nobody, good_signature,
		                       &revoked) == NULL, good, "%zu", n);
		cr_expect(good || revoked, "%zu", n);
		free(exact);
	}
	for (size_t i = 0; i < o.n; i++) {
		uint8_t was = o.b[i];

		for (int v = 0; v < 256; v += 51) {
			o.b[i] = (uint8_t)v;
			error_of(&o);
		}
		o.b[i] = was;
	}
}

/* ---- lists of keys ---- */

/* A line of RevokedKeys. */
static void list_line(struct out *o, const struct out *blob)
{
	char text[2048];
	size_t type = blob->b[3];

	memcpy(text, blob->b + 4, type);
	text[type] = ' ';
	EVP_EncodeBlock((unsigned char *)text + type + 1, blob->b,
	                (int)blob->n);
	raw(o, text, strlen(text));
	raw(o, "\n", 1);
}

static int check_list(const struct out *list, const struct out *key_inside,
                      bool *revoked, char why[200])
{
	const struct krl_subject who = { .key = key_inside->b,
	                                 .key_len = key_inside->n };

	return revoked_check("f", (const char *)list->b, list->n, &who,
	                     revoked, why, 200);
}

/* A certificate revokes the key in it; one that cannot be read everybody. */
Test(revoked, certificates_in_a_list)
{
	struct out list = { .n = 0 }, inside = { .n = 0 }, cert;
	char why[200] = "";
	bool revoked = false;

	str(&inside, "ssh-ed25519");
	bytes(&inside, thirty_two, sizeof(thirty_two));
	make(&cert, &usual);
	list_line(&list, &cert);
	cr_expect_eq(check_list(&list, &inside, &revoked, why), 0, "%s", why);
	cr_expect(revoked);
	cert.n--;
	list_line(&list, &cert);
	cr_expect_eq(check_list(&list, &inside, &revoked, why), -1);
	cr_expect_str_eq(why, "line 2: malformed certificate");
}
