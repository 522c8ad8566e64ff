/* Devices are made in a network of the test's own, and looked at with ip(8),
 * which knows nothing of how they were made. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/tundev.h"

enum { OWNER = 61234, OTHER = 61235 };

static char err[256];

static void run(const char *command)
{
	cr_assert_eq(system(command), 0, "%s", command);
}

/* What a command says; static. */
static const char *said(const char *command)
{
	static char text[16384];
	FILE *f = popen(command, "r");

	cr_assert_not_null(f);
	text[fread(text, 1, sizeof text - 1, f)] = '\0';
	cr_assert_eq(pclose(f), 0, "%s", command);
	return text;
}

static void expect_said(const char *command, const char *what)
{
	const char *text = said(command);

	cr_expect_not_null(strstr(text, what), "%s in %s", what, text);
}

/* Where no udev made the driver everybody's, for this test alone. */
static void open_to_all(void)
{
	struct stat st;

	if (stat("/dev/net/tun", &st) == 0 && (st.st_mode & 0666) == 0666)
		return;
	umask(0);
	cr_assert_eq(unshare(CLONE_NEWNS), 0);
	cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	cr_assert_eq(mount("none", "/dev/net", "tmpfs", 0, "mode=0755"), 0);
	cr_assert_eq(mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)),
	             0);
}

static void setup(void)
{
	int fd;

	if (geteuid() != 0)
		cr_skip("wants root");
	fd = tundev_open(err, sizeof err);
	if (fd < 0)
		cr_skip("%s", err);
	close(fd);
	if (system("ip -V >/dev/null 2>&1") != 0)
		cr_skip("no ip(8)");
	if (unshare(CLONE_NEWNET) < 0)
		cr_skip("no network namespaces");
	open_to_all();
	run("ip link set lo up");
}

TestSuite(tundev, .init = setup, .timeout = 60);

static struct tundev_address parsed(const char *local, const char *peer)
{
	struct tundev_address a;

	cr_assert_eq(tundev_parse(local, peer, &a), 0, "%s", local);
	return a;
}

static struct tundev_config config(unsigned mode, const char *name)
{
	struct tundev_config c = { .mode = mode, .txqueuelen = -1,
		                   .up = true };

	strcpy(c.name, name);
	return c;
}

static void address(struct tundev_config *c, const char *local,
                    const char *peer)
{
	c->addresses[c->naddresses++] = parsed(local, peer);
}

static void route(struct tundev_config *c, const char *destination)
{
	c->routes[c->nroutes++] = parsed(destination, NULL);
}

static int try_create(const struct tundev_config *c, char *text, size_t cap)
{
	struct tundev_config copy = *c;
	int fd = tundev_open(text, cap);
	unsigned index;

	return fd >= 0 ? tundev_create_on(fd, &copy, &index, text, cap) : -1;
}

static int try_attach(unsigned mode, const char *name, unsigned *mtu,
                      char *text, size_t cap)
{
	int fd;

	if (tundev_check(mode, name, text, cap) < 0)
		return -1;
	fd = tundev_open(text, cap);
	return fd >= 0 ? tundev_attach_on(fd, mode, name, mtu, text, cap) : -1;
}

static int create(const struct tundev_config *c)
{
	int fd;

	err[0] = '\0';
	fd = try_create(c, err, sizeof err);
	cr_assert(fd >= 0, "%s", err);
	return fd;
}

/* And nothing is left: no device, and as many descriptors as before. */
static void expect_refused(const struct tundev_config *c, const char *why)
{
	int before = dup(0), after;
	bool existed = tundev_exists(c->name);

	close(before);
	cr_expect_eq(try_create(c, err, sizeof err), -1, "not: %s", why);
	cr_expect_str_eq(err, why);
	cr_expect_eq(tundev_exists(c->name), existed, "%s", why);
	after = dup(0);
	cr_expect_eq(after, before, "%s", why);
	close(after);
}

Test(tundev, tun_with_everything)
{
	struct tundev_config c = config(TUNDEV_POINTOPOINT, "tun7");

	c.mtu = 1400;
	c.txqueuelen = 33;
	address(&c, "10.1.0.1/30", NULL);
	address(&c, "10.9.0.1", "10.9.0.2");
	address(&c, "fd00:1::1/64", NULL);
	address(&c, "fd00:2::1", "fd00:2::2");
	route(&c, "10.2.0.0/16");
	route(&c, "fd00:3::/48");
	int fd = create(&c);
	cr_expect_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	cr_expect_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	expect_said("ip -j -d link show dev tun7",
	            "\"flags\":[\"POINTOPOINT\",\"MULTICAST\",\"NOARP\","
	            "\"UP\",\"LOWER_UP\"],\"mtu\":1400,");
	expect_said("ip -j -d link show dev tun7", "\"txqlen\":33,");
	expect_said("ip -j -d link show dev tun7", "\"type\":\"tun\"");
	expect_said("ip -j -d link show dev tun7", "\"pi\":false");
	expect_said("ip -j -d link show dev tun7", "\"persist\":false");
	expect_said("ip -j -d link show dev tun7",
	            "\"inet6_addr_gen_mode\":\"none\"");
	expect_said("ip -o addr show dev tun7", "inet 10.1.0.1/30 ");
	expect_said("ip -o addr show dev tun7",
	            "inet 10.9.0.1 peer 10.9.0.2/32 ");
	expect_said("ip -o addr show dev tun7",
	            "inet6 fd00:1::1/64 scope global nodad ");
	expect_said("ip -o addr show dev tun7",
	            "inet6 fd00:2::1 peer fd00:2::2/128 scope global nodad ");
	cr_expect_null(strstr(said("ip -o addr show dev tun7"), "fe80"));
	cr_expect_null(strstr(said("ip -o addr show dev tun7"), "tentative"));
	expect_said("ip route", "10.2.0.0/16 dev tun7 proto static ");
	expect_said("ip -6 route", "fd00:3::/48 dev tun7 proto static ");
	expect_said("ip route get 10.9.0.2", "dev tun7 src 10.9.0.1 ");
	close(fd);
	cr_expect(!tundev_exists("tun7"));
	cr_expect_str_eq(said("ip route"), "");
}

/* What the other end says of routes cannot be switched off there. */
Test(tundev, not_without_proc)
{
	struct tundev_config c = config(TUNDEV_POINTOPOINT, "lab-tun");

	cr_assert_eq(unshare(CLONE_NEWNS), 0);
	cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	cr_assert_eq(mount("none", "/proc/sys", "tmpfs", 0, NULL), 0);
	expect_refused(&c, "/proc/sys/net/ipv4/conf/lab-tun/accept_redirects: "
	               "No such file or directory");
}

Test(tundev, tap_with_an_address_of_its_own)
{
	struct tundev_config c = config(TUNDEV_ETHERNET, "lab-tap");

	c.mtu = 65521; /* the most of TunnelMTU */
	c.txqueuelen = 0;
	address(&c, "192.168.7.1/24", NULL);
	int fd = create(&c);
	expect_said("ip -j -d link show dev lab-tap",
	            "\"flags\":[\"BROADCAST\",\"MULTICAST\",\"UP\","
	            "\"LOWER_UP\"],\"mtu\":65521,");
	expect_said("ip -j -d link show dev lab-tap", "\"type\":\"tap\"");
	cr_expect_null(strstr(said("ip -j link show dev lab-tap"), "txqlen"));
	expect_said("ip -o addr show dev lab-tap",
	            "inet 192.168.7.1/24 brd 192.168.7.255 scope global");
	expect_said("ip -o addr show dev lab-tap", "inet6 fe80::");
	close(fd);
	cr_expect(!tundev_exists("lab-tap"));
}

/* The bridge keeps its own hardware address, whatever the tap's. */
Test(tundev, tap_as_a_port)
{
	struct tundev_config c = config(TUNDEV_ETHERNET, "tap0");
	char before[512];

	run("ip tuntap add dev eth9 mode tap &&"
	    "ip link set eth9 address 52:54:00:00:00:09 &&"
	    "ip link add br0 type bridge && ip link set eth9 master br0 &&"
	    "ip link set br0 up");
	snprintf(before, sizeof before, "%s", said("ip -br link show dev br0"));
	cr_expect_not_null(strstr(before, "52:54:00:00:00:09"));
	strcpy(c.bridge, "br0");
	int fd = create(&c);
	expect_said("ip -j link show dev tap0", "\"master\":\"br0\"");
	expect_said("ip -j -d link show dev tap0",
	            "\"inet6_addr_gen_mode\":\"none\"");
	expect_said("ip -j link show dev tap0", "\"address\":\"fe:");
	expect_said("ip -br link show dev br0", "52:54:00:00:00:09");
	close(fd);
	cr_expect_str_eq(said("ip -o link show master br0 | grep -c tap0 || :"),
	                 "0\n");
}

Test(tundev, least)
{
	struct tundev_config c = config(TUNDEV_POINTOPOINT, "tun0");

	c.up = false;
	int fd = create(&c);
	expect_said("ip -j link show dev tun0",
	            "\"flags\":[\"POINTOPOINT\",\"MULTICAST\",\"NOARP\"],"
	            "\"mtu\":1500,");
	cr_expect_str_eq(said("ip addr show dev tun0 | grep -c inet || :"),
	                 "0\n");
	close(fd);
}

/* Below its least MTU a device has no IPv6; that is no failure. */
Test(tundev, small_mtu)
{
	struct tundev_config c = config(TUNDEV_POINTOPOINT, "tun0");

	c.mtu = 576;
	address(&c, "10.0.0.1", "10.0.0.2");
	close(create(&c));
	address(&c, "fd00::1/64", NULL);
	expect_refused(&c, "address fd00::1/64: mtu 576 is too small for IPv6");
}

Test(tundev, no_ipv6)
{
	struct tundev_config c = config(TUNDEV_POINTOPOINT, "tun0");

	/* sysctl(8) may not be there; the file is this network's. */
	if (system("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"))
		cr_skip("cannot switch IPv6 off");
	close(create(&c));
	address(&c, "fd00::1/64", NULL);
	expect_refused(&c, "address fd00::1/64: Permission denied");
}

Test(tundev, created_exclusively)
{
	struct tundev_config c = config(TUNDEV_POINTOPOINT, "tun3");
	int fd = create(&c);

	expect_refused(&c, "device tun3 exists already");
	c.mode = TUNDEV_ETHERNET;
	expect_refused(&c, "device tun3 exists already");
	strcpy(c.name, "lo");
	expect_refused(&c, "device lo exists already");
	run("ip tuntap add dev tap3 mode tap");
	strcpy(c.name, "tap3");
	expect_refused(&c, "device tap3 exists already");
	run("ip link property add dev lo altname second");
	strcpy(c.name, "second");
	expect_refused(&c, "device second exists already");
	cr_expect(tundev_exists("tun3"));
	close(fd);
}

Test(tundev, a_step_that_fails_leaves_nothing)
{
	struct tundev_config ok = config(TUNDEV_ETHERNET, "tap0"), c = ok;

	c.mtu = 65536;
	expect_refused(&c, "mtu 65536: Invalid argument");
	c.mtu = 67;
	expect_refused(&c, "mtu 67: Invalid argument");
	c = ok;
	address(&c, "10.1.0.1/30", NULL);
	address(&c, "10.1.0.1/30", NULL);
	expect_refused(&c, "address 10.1.0.1/30: File exists");
	c = ok;
	address(&c, "fd00::1", "fd00::2");
	c.addresses[0].prefix = 129;
	expect_refused(&c, "address fd00::1/129 peer fd00::2: "
	               "Invalid argument");
	c = ok;
	address(&c, "10.1.0.1/24", NULL);
	route(&c, "10.2.0.1/16");
	expect_refused(&c, "route 10.2.0.1/16: Invalid argument");
	run("ip route add 10.3.0.0/16 dev lo");
	c.routes[0] = parsed("10.3.0.0/16", NULL);
	expect_refused(&c, "route 10.3.0.0/16: File exists");
	c.routes[0] = parsed("fd00:3::/48", NULL);
	c.up = false;
	expect_refused(&c, "route fd00:3::/48: Network is down");
}

Test(tundev, bridges_that_are_none)
{
	struct tundev_config c = config(TUNDEV_ETHERNET, "tap0");

	strcpy(c.bridge, "br7");
	expect_refused(&c, "bridge br7: No such device");
	strcpy(c.bridge, "lo");
	expect_refused(&c, "bridge lo: not a bridge");
	run("ip link add br7 type bridge");
	strcpy(c.bridge, "br7");
	c.mode = TUNDEV_POINTOPOINT;
	expect_refused(&c, "bridge br7: takes Ethernet devices only");
}

Test(tundev, no_descriptors)
{
	struct tundev_config c = config(TUNDEV_POINTOPOINT, "tun0");
	int next = dup(0);
	struct rlimit few = { (rlim_t)next, (rlim_t)next + 64 };
	unsigned mtu;

	close(next);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	cr_expect_eq(try_create(&c, err, sizeof err), -1);
	cr_expect_str_eq(err, "/dev/net/tun: Too many open files");
	cr_expect_eq(try_attach(TUNDEV_ETHERNET, "tap0", &mtu, err,
	                        sizeof err), -1);
	cr_expect_str_eq(err, "netlink: Too many open files");
	cr_expect(tundev_exists("tap0"), "not known to be free");
	few.rlim_cur++;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	cr_expect_eq(try_create(&c, err, sizeof err), -1);
	cr_expect_str_eq(err, "/proc/sys/net/ipv4/conf/tun0/accept_redirects: "
	                 "Too many open files");
	cr_expect_eq(try_attach(TUNDEV_ETHERNET, "tap0", &mtu, err,
	                        sizeof err), -1);
	cr_expect_str_eq(err, "device tap0 does not exist");
	few.rlim_cur += 64 - 1;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	close(create(&c));
}

Test(tundev, names_and_modes_that_are_none)
{
	static const char *const names[] = { "", "tun%d", "a/b", "a b", "a:b",
	                                     "\xff" };
	struct tundev_config c = config(TUNDEV_POINTOPOINT, "tun0");

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		strcpy(c.name, names[i]);
		cr_expect_eq(try_create(&c, err, sizeof err), -1);
		cr_expect_str_eq(err, "device name: invalid");
	}
	memset(c.name, 'x', sizeof c.name);
	cr_expect_eq(try_create(&c, err, sizeof err), -1);
	strcpy(c.name, "..");
	expect_refused(&c, "device ..: Invalid argument");
	strcpy(c.name, "tun0");
	c.mode = 3;
	expect_refused(&c, "tunnel mode 3: unknown");
	cr_expect_str_eq(said("ip -br link | grep -vc '^lo ' || :"), "0\n");
}

/* A reason that does not fit is cut. */
Test(tundev, short_reasons)
{
	struct tundev_config c = config(TUNDEV_ETHERNET, "tap0");
	char little[8];

	c.mtu = 65536;
	cr_expect_eq(try_create(&c, little, sizeof little), -1);
	cr_expect_str_eq(little, "mtu 655");
}

static void drop_to(uid_t uid)
{
	cr_assert_eq(setgroups(0, NULL), 0);
	cr_assert_eq(setresgid(uid, uid, uid), 0);
	cr_assert_eq(setresuid(uid, uid, uid), 0);
}

/* In a child with that uid and no capability. why NULL: it gets the device. */
static void expect_attach(uid_t uid, unsigned mode, const char *name,
                          const char *why, unsigned want_mtu)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		unsigned mtu = 0;
		drop_to(uid);
		int fd = try_attach(mode, name, &mtu, err, sizeof err);
		bool ok = why == NULL ? fd >= 0 && mtu == want_mtu :
		                        fd == -1 && strcmp(err, why) == 0;
		if (!ok)
			fprintf(stderr, "%s: fd %d mtu %u: %s\n", name, fd,
			        mtu, err);
		_exit(ok ? 0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0, "%s: not: %s", name,
	             why != NULL ? why : "attached");
}

Test(tundev, attached_by_its_owner_only)
{
	run("ip tuntap add dev tun4 mode tun user 61234 &&"
	    "ip link set tun4 mtu 1380 &&"
	    "ip tuntap add dev tap4 mode tap user 61234 &&"
	    "ip tuntap add dev tap5 mode tap group 61234 &&"
	    "ip tuntap add dev tap6 mode tap &&"
	    "ip tuntap add dev tap7 mode tap user 61234 multi_queue");
	expect_attach(OWNER, TUNDEV_POINTOPOINT, "tun4", NULL, 1380);
	expect_attach(OWNER, TUNDEV_ETHERNET, "tap4", NULL, 1500);
	expect_attach(OWNER, TUNDEV_ETHERNET, "tap5", NULL, 1500);
	expect_attach(OTHER, TUNDEV_POINTOPOINT, "tun4",
	              "device tun4 belongs to another account", 0);
	expect_attach(OTHER, TUNDEV_ETHERNET, "tap5",
	              "device tap5 belongs to another account", 0);
	expect_attach(OWNER, TUNDEV_ETHERNET, "tap6",
	              "device tap6 belongs to no account", 0);
	expect_attach(OWNER, TUNDEV_ETHERNET, "tap7",
	              "device tap7 has multiple queues", 0);
	cr_expect(tundev_exists("tun4"));
}

Test(tundev, attached_in_its_mode_only)
{
	run("ip tuntap add dev tun4 mode tun user 61234 &&"
	    "ip tuntap add dev tap4 mode tap user 61234");
	expect_attach(OWNER, TUNDEV_ETHERNET, "tun4",
	              "device tun4 is not an Ethernet (tap) device", 0);
	expect_attach(OWNER, TUNDEV_POINTOPOINT, "tap4",
	              "device tap4 is not a point-to-point (tun) device", 0);
	expect_attach(OWNER, TUNDEV_ETHERNET, "lo",
	              "device lo is not an Ethernet (tap) device", 0);
	expect_attach(OWNER, TUNDEV_ETHERNET, "tap9",
	              "device tap9 does not exist", 0);
	expect_attach(OWNER, TUNDEV_ETHERNET, "tap%d",
	              "device name: invalid", 0);
}

Test(tundev, attached_by_one_only)
{
	unsigned mtu;

	run("ip tuntap add dev tap4 mode tap user 61234");
	int fd = try_attach(TUNDEV_ETHERNET, "tap4", &mtu, err, sizeof err);
	cr_assert(fd >= 0, "%s", err);
	cr_expect_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	expect_attach(OWNER, TUNDEV_ETHERNET, "tap4",
	              "device tap4 is in use", 0);
	close(fd);
	expect_attach(OWNER, TUNDEV_ETHERNET, "tap4", NULL, 1500);
}

/* A device that a session has just now is no one else's, though the kernel
 * knows no owner of it. */
Test(tundev, created_ones_are_not_attached)
{
	struct tundev_config c = config(TUNDEV_ETHERNET, "tap0");
	int fd = create(&c);

	expect_attach(OWNER, TUNDEV_ETHERNET, "tap0",
	              "device tap0 is in use", 0);
	expect_attach(0, TUNDEV_ETHERNET, "tap0", "device tap0 is in use", 0);
	close(fd);
}

/* With CAP_NET_ADMIN the kernel would make what is not there. */
Test(tundev, attaching_makes_nothing)
{
	unsigned mtu;

	cr_expect_eq(try_attach(TUNDEV_POINTOPOINT, "tun9", &mtu, err,
	                        sizeof err), -1);
	cr_expect_str_eq(err, "device tun9 does not exist");
	cr_expect(!tundev_exists("tun9"));
}

/* What another program left switched on would make reads larger than the MTU,
 * with checksums missing. */
Test(tundev, attached_without_offloads)
{
	struct ifreq ifr = { .ifr_name = "tap4",
	                     .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	unsigned mtu;

	run("ip tuntap add dev tap4 mode tap user 61234");
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	cr_assert_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	cr_assert_eq(ioctl(fd, TUNSETOFFLOAD,
	                   TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6), 0);
	close(fd);
	fd = try_attach(TUNDEV_ETHERNET, "tap4", &mtu, err, sizeof err);
	cr_assert(fd >= 0, "%s", err);
	expect_said("ip -j -d link show dev tap4", "\"vnet_hdr\":false");
	if (system("ethtool --version >/dev/null 2>&1") == 0) {
		expect_said("ethtool -k tap4", "tx-checksumming: off");
		expect_said("ethtool -k tap4",
		            "tcp-segmentation-offload: off");
	}
	close(fd);
}

Test(tundev, made_with_offloads_if_asked)
{
	struct tundev_config c = config(TUNDEV_ETHERNET, "tap5");
	int fd;

	c.offload = true;
	fd = create(&c);
	expect_said("ip -j -d link show dev tap5", "\"vnet_hdr\":true");
	if (system("ethtool --version >/dev/null 2>&1") == 0) {
		expect_said("ethtool -k tap5", "tx-checksumming: on");
		expect_said("ethtool -k tap5",
		            "tcp-segmentation-offload: on");
	}
	close(fd);
}

Test(tundev, without_a_right_nothing_is_made)
{
	struct tundev_config c = config(TUNDEV_POINTOPOINT, "tun0");
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		drop_to(OWNER);
		_exit(try_create(&c, err, sizeof err) == -1 &&
		      strcmp(err, "device tun0: Operation not permitted") == 0 ?
		      0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
}

Test(tundev_parse, addresses)
{
	struct tundev_address a = parsed("10.1.2.3", NULL);

	cr_expect_eq(a.family, AF_INET);
	cr_expect_eq(a.prefix, 32);
	cr_expect(!a.has_peer);
	cr_expect_arr_eq(a.local, "\x0a\x01\x02\x03", 4);
	a = parsed("0.0.0.0/0", NULL);
	cr_expect_eq(a.prefix, 0);
	a = parsed("10.1.2.3/24", "10.1.2.9");
	cr_expect_eq(a.prefix, 24);
	cr_expect(a.has_peer);
	cr_expect_arr_eq(a.peer, "\x0a\x01\x02\x09", 4);
	a = parsed("fd00::1", "fd00::2");
	cr_expect_eq(a.family, AF_INET6);
	cr_expect_eq(a.prefix, 128);
	cr_expect_eq(a.local[15], 1);
	cr_expect_eq(a.peer[15], 2);
	a = parsed("2001:0db8:aaaa:bbbb:cccc:dddd:192.0.2.133/64", NULL);
	cr_expect_eq(a.prefix, 64);
}

Test(tundev_parse, what_is_none)
{
	static const char *const locals[] = {
		"", "/", "/24", "10.1", "10.1.2.3/", "10.1.2.3/33",
		"10.1.2.3/-1", "10.1.2.3/+1", "10.1.2.3/ 1", "10.1.2.3/1x",
		"10.1.2.3/0024", "10.1.2.3/24/24", "10.1.2.3 ", " 10.1.2.3",
		"010.1.2.3.4", "fd00::1/129", "fd00::1/256", "fd00::1%lo",
		"fd00:::1", "host", "10.1.2.256",
		"2001:0db8:aaaa:bbbb:cccc:dddd:192.000.002.133.000.000.0/64",
	};
	struct tundev_address a = { .prefix = 77 };

	for (size_t i = 0; i < sizeof locals / sizeof locals[0]; i++)
		cr_expect_eq(tundev_parse(locals[i], NULL, &a), -1, "%s",
		             locals[i]);
	cr_expect_eq(tundev_parse("10.0.0.1", "fd00::1", &a), -1);
	cr_expect_eq(tundev_parse("fd00::1", "10.0.0.1", &a), -1);
	cr_expect_eq(tundev_parse("10.0.0.1", "", &a), -1);
	cr_expect_eq(tundev_parse("10.0.0.1", "10.0.0.2/32", &a), -1);
	cr_expect_eq(a.prefix, 77);
}
