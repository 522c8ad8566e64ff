/*
 * role: aditd re-executes itself for each long-lived process, so that each has
 * an address space of its own and inherits nothing but what is named here:
 * descriptor 3, its edge to the listener, and 4, the policy's snapshot.
 */
#ifndef ADIT_ROLE_H
#define ADIT_ROLE_H

#include <sys/types.h>

#include "server/config.h"
#include "server/ipc.h"

enum { ROLE_FD_EDGE = 3, ROLE_FD_POLICY = 4 };

/* Remember the command line and, if this process is to spawn roles, the
 * running executable; to be called before anything else in main(). Returns 0,
 * or -1 (errno). */
int role_init(int argc, char **argv, bool spawns);

/* Start the role in a process of its own; policy_fd is borrowed (-1: none).
 * Returns our end of its edge (SOCK_SEQPACKET) and *pid, or -1 (errno). */
int role_spawn(const char *role, int policy_fd, pid_t *pid);

/* In the new process: check and take the two descriptors. Returns the edge, or
 * -1 if this is not a process that role_spawn() made, or another descriptor is
 * open. */
int role_enter(void);

/* Name this process for ps(1) and /proc/PID/comm. */
void role_title(const char *comm, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The processes that role_spawn() starts; each ends with the process's exit
 * status. edge is theirs. */
int keyholder_run(struct config *c, int edge);
int broker_zygote_run(struct config *c, int edge);
int session_zygote_run(struct config *c, int edge);
int proxy_reader_run(struct config *c, int edge);
int watcher_run(struct config *c, int edge);
int metrics_http_run(struct config *c, int edge);

#endif
