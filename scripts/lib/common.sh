# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Names and messages that every script needs. Source it first:
#
#   . "$(dirname "$0")/lib/common.sh"
#
# PMIG_CACHE (default ~/.cache/pmig) is the only place outside the repository that pmig writes to:
#
#   tools   -> tools-<key>/        a Debian chroot with the kernel toolchain, QEMU and friends
#   kernel  -> kernel-<release>/   the kernel source, configured and prepared for building modules
#   image   -> image-<release>/    the distribution's own kernel package, unpacked (vmlinuz, modules)

# The directory of the repository.
PMIG_REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PMIG_CACHE=${PMIG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pmig}
# What the scripts build is where they look for it, whatever this machine's settings say.
export CARGO_TARGET_DIR=$PMIG_REPO/target

# Progress goes to stderr, results to stdout.
step() { printf '==> %s\n' "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# cache_release prints the release (`uname -r`) of the kernel that `setup` has chosen.
cache_release() {
	local link
	link=$(readlink "$PMIG_CACHE/kernel" 2>/dev/null) || return 1
	printf '%s\n' "${link#kernel-}"
}

# need_setup ends the script with advice when `setup` has not completed.
need_setup() {
	[ -d "$PMIG_CACHE/tools/" ] && [ -d "$PMIG_CACHE/kernel/" ] && [ -d "$PMIG_CACHE/image/" ] ||
		die "the toolchain is not there yet: run scripts/setup first"
	[ "$(id -u)" = 0 ] || die "this needs root (it enters a chroot)"
}

# with_lock NAME COMMAND… runs COMMAND while holding the lock NAME of the cache.
with_lock() {
	local name=$1 fd
	shift
	mkdir -p "$PMIG_CACHE"
	exec {fd}>"$PMIG_CACHE/$name.lock"
	if ! flock -n "$fd"; then
		note "waiting for another run to finish"
		flock "$fd"
	fi
	"$@"
	exec {fd}>&-
}
