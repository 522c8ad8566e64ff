#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/options.h"

static int override(struct options *o, const char *keyword, const char *value)
{
	char *line;

	if (o->noverrides == OPTIONS_OVERRIDES_MAX) {
		fprintf(stderr, "aditd: too many -o, -p and -h options\n");
		return -1;
	}
	if (keyword == NULL) { /* "Keyword=value", as sshd(8)'s -o */
		line = strdup(value);
		if (line != NULL && strchr(line, '=') != NULL &&
		    strcspn(line, "=") < strcspn(line, " \t\""))
			*strchr(line, '=') = ' ';
	} else if (asprintf(&line, "%s %s", keyword, value) < 0) {
		line = NULL;
	}
	if (line == NULL) {
		fprintf(stderr, "aditd: out of memory\n");
		return -1;
	}
	o->override_is_port[o->noverrides] =
		keyword != NULL && strcmp(keyword, "Port") == 0;
	o->overrides[o->noverrides++] = line;
	return 0;
}

static void usage(void)
{
	fprintf(stderr,
"usage: aditd [-DdetTvV] [-C spec] [-E log_file] [-f policy_file]\n"
"             [-h host_key_file] [-o option] [-p port]\n"
"       aditd --explain [--no-dns] -C spec [-f policy_file] [-o option]"
" request...\n"
"  -D  stay in the foreground       -e  log to standard error\n"
"  -t  check the policy and keys    -T  print the policy in force\n"
"  -C  for whom -T prints: user=USER,host=NAME,addr=ADDR,laddr=ADDR,\n"
"      lport=PORT,version=VERSION,invalid-user\n"
"  -v  with -t: say what becomes of each line\n"
"  --explain: may USER do it, and by which rules? spec also: key=PUBLIC_KEY\n"
"      open HOST:PORT|/PATH       listen [HOST:]PORT|/PATH\n"
"      tunnel point-to-point|ethernet [UNIT]\n"
"      login PUBLIC_KEY_FILE\n"
"  --no-dns: look no name up\n");
}

enum { EXPLAIN = 256, NO_DNS };
static const struct option long_options[] = {
	{ "explain", no_argument, NULL, EXPLAIN },
	{ "no-dns", no_argument, NULL, NO_DNS },
	{ .name = NULL }
};

/* -f -: standard input */
static const char *policy_name(const char *name)
{
	return strcmp(name, "-") == 0 ? "/dev/stdin" : name;
}

int options_parse(int argc, char *const *argv, struct options *o)
{
	int c, bad = 0;

	memset(o, 0, sizeof(*o));
	o->policy_file = SYSCONFDIR "/adit/policy";
	optind = 1;
	while ((c = getopt_long(argc, argv, "C:DdE:ef:h:o:p:tTvVx:",
	                        long_options, NULL)) != -1) {
		switch (c) {
		case 'C': o->dump_spec = optarg; o->dump = true; break;
		case 'D': o->foreground = true; break;
		case 'd':
			o->debug++;
			o->foreground = o->to_stderr = true;
			break;
		case 'E': o->log_file = optarg; break;
		case 'e': o->to_stderr = true; break;
		case 'f': o->policy_file = policy_name(optarg); break;
		case 'h': bad |= override(o, "HostKey", optarg); break;
		case 'o': bad |= override(o, NULL, optarg); break;
		case 'p': bad |= override(o, "Port", optarg); break;
		case 't': o->test = true; break;
		case 'T': o->dump = true; break;
		case 'v': o->verbose = true; break;
		case 'V': o->version = true; break;
		case 'x': o->role = optarg; break;
		case EXPLAIN: o->explain = true; break;
		case NO_DNS: o->no_dns = true; break;
		default: bad = 1; break;
		}
	}
	o->request = argv + optind;
	if (!bad && optind != argc && !o->explain) {
		fprintf(stderr, "aditd: unexpected argument: %s\n",
		        argv[optind]);
		bad = 1;
	}
	if (!bad)
		return 0;
	usage();
	options_free(o);
	return -1;
}

void options_free(struct options *o)
{
	for (size_t i = 0; i < o->noverrides; i++)
		free(o->overrides[i]);
	o->noverrides = 0;
}
