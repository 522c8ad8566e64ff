#!/bin/sh
# Make ./configure out of configure.ac and Makefile.am.
set -eu
cd "$(dirname "$0")"

need() { # COMMAND DEBIAN-PACKAGE
	command -v "$1" >/dev/null || {
		echo "autogen.sh: no $1: apt-get install $2" >&2
		exit 1
	}
}
need autoreconf autoconf
need automake automake
need pkg-config pkg-config
exec autoreconf --install --force --warnings=all "$@"
