/*
 * keyholder: host key files. The process itself is keyholder_run(), role.h.
 */
#ifndef ADIT_KEYHOLDER_H
#define ADIT_KEYHOLDER_H

#include "server/pki.h"

/* Read and import a host key file, refusing one that others can read. NULL:
 * *why is a static reason. Free with pki_private_free(). */
struct pki_private *keyholder_load(const char *path, const char **why);

#endif
