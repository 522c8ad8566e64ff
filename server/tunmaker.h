/*
 * tun maker: a process that makes and configures one device, hands its
 * descriptor to the broker that asked, and ends. It has CAP_NET_ADMIN and
 * nothing else. For a device that exists it only opens /dev/net/tun: to bind
 * that to the device, and to be refused it, is for the account.
 */
#ifndef ADIT_TUNMAKER_H
#define ADIT_TUNMAKER_H

#include "sandbox/sandbox.h"
#include "server/proto.h"

/* In a fork of the broker zygote: serve a MAKER_MAKE or MAKER_OPEN request,
 * answer on
 * channel (taken). ids: who to be (NULL: stay). Returns the exit status. */
int tunmaker_run(const struct sandbox *sandbox, const struct sandbox_ids *ids,
                 struct proto_msg *m, int channel);

#endif
