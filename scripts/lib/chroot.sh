# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Running commands in the tools chroot. Mounts are made in a private mount namespace, so that nothing stays mounted
# whatever happens to the command.

# chroot_run ROOT [--bind SRC:DST | --bind-ro SRC:DST]… -- COMMAND…
#
# Runs COMMAND in ROOT with /proc, /sys and /dev, the given binds, and a clean environment but for proxy settings
# and the variables named in PMIG_PASS (separated by spaces).
chroot_run() {
	local root=$1 binds=() keep=() name
	shift
	while [ "$1" != -- ]; do
		binds+=("$1" "$2")
		shift 2
	done
	shift
	for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY TERM NO_COLOR ${PMIG_PASS:-}; do
		if [ -n "${!name+set}" ]; then keep+=("$name=${!name}"); fi
	done
	# shellcheck disable=SC2016 # the inner shell expands
	unshare --mount --propagation private bash -c '
		set -euo pipefail
		root=$1
		shift
		mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
		mount --rbind /sys "$root/sys"
		mount --rbind /dev "$root/dev"
		while [ "$1" != -- ]; do
			mkdir -p "$root${2#*:}"
			mount --bind "${2%%:*}" "$root${2#*:}"
			if [ "$1" = --bind-ro ]; then mount -o remount,bind,ro "$root${2#*:}"; fi
			shift 2
		done
		shift
		exec chroot "$root" /usr/bin/env -i "$@"
	' chroot_run "$root" ${binds[@]+"${binds[@]}"} -- \
		HOME=/tmp LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		${keep[@]+"${keep[@]}"} "$@"
}

# tools_run [binds…] -- COMMAND… runs COMMAND in the tools chroot, with
#
#   /pmig/kernel   the prepared kernel tree, read-only
#   /pmig/image    the unpacked kernel package, read-only
#   /pmig/repo     the repository, read-only
#   /pmig/target   its target/pmig, writable
tools_run() {
	mkdir -p "$PMIG_REPO/target/pmig"
	chroot_run "$(readlink -f "$PMIG_CACHE/tools")" \
		--bind-ro "$(readlink -f "$PMIG_CACHE/kernel"):/pmig/kernel" \
		--bind-ro "$(readlink -f "$PMIG_CACHE/image"):/pmig/image" \
		--bind-ro "$PMIG_REPO:/pmig/repo" \
		--bind "$PMIG_REPO/target/pmig:/pmig/target" \
		"$@"
}
