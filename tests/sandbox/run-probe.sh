#!/bin/sh
# Every profile, as root and as an ordinary user: what it must refuse and what
# it must allow. -v prints the whole table: role, system call, result.
probe=${PROBE:-./tests/sandbox/probe}

if test "$(id -u)" = 0; then
	$probe "$@" >probe.$$ 2>&1
	first=$?
	first_n=$(sed -n 's/^1\.\.//p' probe.$$)
	grep -v '^1\.\.' probe.$$
	rm -f probe.$$
	$probe -u "$@" >probe.$$ 2>&1
else
	first=0 first_n=0
	$probe "$@" >probe.$$ 2>&1
fi
second=$?
# One plan for both; the second's numbers go on from the first's.
awk -v n="${first_n:-0}" '
	/^1\.\./ { print "1.." n + substr($0, 4); next }
	/^(not )?ok / { i = $1 == "not" ? 3 : 2; $i = n + $i; \
		sub(/ - /, " - ordinary user: ") }
	{ print }' probe.$$
rm -f probe.$$
test $first = 0 && test $second = 0
