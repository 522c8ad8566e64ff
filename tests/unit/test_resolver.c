/* The answer of a resolver's child, who may be the network's by then. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "server/resolver.h"

enum { PORT = 8022 };

/* As the child writes it. */
struct answer {
	int gai_error;
	struct addresses a;
	enum resolver_name how;
	char name[256];
};

static struct answer good(void)
{
	struct answer ans;
	struct sockaddr_in *in4 = (void *)&ans.a.v[0].ss;
	struct sockaddr_in6 *in6 = (void *)&ans.a.v[1].ss;

	memset(&ans, 0, sizeof(ans));
	ans.a.n = 2;
	in4->sin_family = AF_INET;
	in4->sin_port = htons(PORT);
	ans.a.v[0].len = sizeof(*in4);
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(PORT);
	ans.a.v[1].len = sizeof(*in6);
	return ans;
}

static const char *refused(const struct answer *ans)
{
	struct addresses a = { .n = 0 };
	const char *why = resolver_answer(ans, sizeof(*ans), PORT, &a);

	cr_expect_eq(a.n, why == NULL ? ans->a.n : 0);
	return why;
}

Test(resolver, an_answer_is_taken)
{
	struct answer ans = good();

	cr_expect_null(refused(&ans));
	ans.a.n = 1;
	cr_expect_null(refused(&ans));
}

Test(resolver, an_error_has_its_text)
{
	struct answer ans = { .gai_error = EAI_NONAME };

	cr_expect_str_eq(refused(&ans), gai_strerror(EAI_NONAME));
	ans.gai_error = 123456;
	cr_expect_not_null(refused(&ans));
}

Test(resolver, another_size_is_refused)
{
	struct answer ans = good();
	struct addresses a;

	cr_expect_not_null(resolver_answer(&ans, 0, PORT, &a));
	cr_expect_not_null(resolver_answer(&ans, sizeof(ans) - 1, PORT, &a));
}

Test(resolver, another_number_of_addresses_is_refused)
{
	struct answer ans = good();

	ans.a.n = 0;
	cr_expect_not_null(refused(&ans));
	ans.a.n = RESOLVER_ADDRS_MAX + 1;
	cr_expect_not_null(refused(&ans));
	ans.a.n = SIZE_MAX;
	cr_expect_not_null(refused(&ans));
	ans.a.n = 3; /* the third is all zero */
	cr_expect_not_null(refused(&ans));
}

Test(resolver, a_length_that_is_not_its_familys_is_refused)
{
	static const socklen_t lens[] = { 0, sizeof(struct sockaddr_in) - 1,
		sizeof(struct sockaddr_in6),
		sizeof(struct sockaddr_storage) + 1, (socklen_t)-1 };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct answer ans = good();

		ans.a.v[0].len = lens[i];
		cr_expect_not_null(refused(&ans), "length %zu", i);
	}
}

Test(resolver, another_family_is_refused)
{
	struct answer ans = good();
	struct sockaddr_un *sun = (void *)&ans.a.v[1].ss;

	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	strcpy(sun->sun_path, "/run/dbus/socket");
	ans.a.v[1].len = sizeof(*sun);
	cr_expect_not_null(refused(&ans));
}

Test(resolver, another_port_is_refused)
{
	struct answer ans = good();
	struct sockaddr_in *in4 = (void *)&ans.a.v[0].ss;
	struct sockaddr_in6 *in6 = (void *)&ans.a.v[1].ss;

	in4->sin_port = htons(22);
	cr_expect_not_null(refused(&ans));
	ans = good();
	in6->sin6_port = htons(22);
	cr_expect_not_null(refused(&ans));
}
