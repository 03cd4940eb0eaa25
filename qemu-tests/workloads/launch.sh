#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Becomes a program that knows nothing of any test, connected to files only.
#
#   launch.sh LOG STDIN STDOUT PROGRAM [ARGUMENT ...]
#
# Writes READY <pid> to LOG, to which the program's messages go too.
set -eu
log=$1 in=$2 out=$3
shift 3
echo "READY $$" >>"$log"
exec "$@" <"$in" >"$out" 2>>"$log"
