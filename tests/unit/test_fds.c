#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

#include "server/fds.h"

static int null_at(int fd)
{
	int null = open("/dev/null", O_RDONLY);

	if (null < 0 || dup2(null, fd) < 0)
		return -1;
	if (null != fd)
		close(null);
	return fd;
}

Test(fds, what_was_there_is_no_stray)
{
	struct fds known;

	fds_look(&known);
	cr_assert_eq(fds_stray(&known, NULL, 0, FDS_KNOWN_MAX), -1);
}

Test(fds, the_lowest_new_one_is)
{
	static const int at[] = { 40, 63, 64, 255, 256, 1023 };
	struct fds known;

	fds_look(&known);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		cr_assert_eq(null_at(at[i]), at[i]);
		cr_expect_eq(fds_stray(&known, NULL, 0, FDS_KNOWN_MAX), at[i]);
		cr_expect_eq(fds_stray(&known, &at[i], 1, FDS_KNOWN_MAX), -1);
		close(at[i]);
	}
}

Test(fds, own_ones_are_expected_wherever_they_are)
{
	int own[3] = { null_at(50), -1, null_at(1500) };
	struct fds known;

	close(50);
	fds_look(&known);
	cr_assert_eq(null_at(50), 50);
	cr_expect_eq(fds_stray(&known, own, 3, FDS_KNOWN_MAX), -1);
	/* as far as the highest of own is looked at, beyond it is not */
	cr_assert_eq(null_at(1400), 1400);
	cr_expect_eq(fds_stray(&known, own, 3, FDS_KNOWN_MAX), 1400);
}

Test(fds, one_that_was_known_and_is_closed_is_nothing)
{
	struct fds known;

	cr_assert_eq(null_at(77), 77);
	fds_look(&known);
	close(77);
	cr_assert_eq(fds_stray(&known, NULL, 0, FDS_KNOWN_MAX), -1);
}
