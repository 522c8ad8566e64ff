/*
 * listener: accepts connections and keeps the other processes running. It has
 * root's ids, decides nothing about policy and reads nothing from the network.
 */
#ifndef ADIT_LISTENER_H
#define ADIT_LISTENER_H

#include "server/config.h"

/* Serve until a signal ends it. ready_fd (-1: none) gets one byte, and is
 * closed, once connections are accepted. Returns the exit status. */
int listener_run(struct config *c, int ready_fd);

/* Could AuditLog's argument be opened? Nothing is made, and the journal is taken
 * to be there. Returns NULL, or why not (static). */
const char *listener_audit_lacks(const char *to);

#endif
