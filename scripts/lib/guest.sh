# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The root file system and the initramfs of the test guests. Source common.sh, chroot.sh and debian.sh first; the tools
# chroot and the unpacked kernel package must be there.
#
#   PMIG_CACHE/guest -> guest-<key>/
#     vmlinuz          the distribution's kernel, as it is signed and shipped
#     release          its release
#     root.ext4        a Debian root file system with real programs; guests write to an overlay over it
#     initramfs.cpio   finds the root file system, starts the test runner (which the harness appends)

GUEST_SUITE=trixie
GUEST_PACKAGES=(
	bash busybox-static ca-certificates coreutils dbus e2fsprogs gzip iproute2 iputils-ping kmod nginx-light perl
	postgresql procps psmisc python3 python3-numpy python3-yaml redis-server redis-tools sqlite3 strace systemd systemd-sysv
	util-linux xz-utils
)

# Drivers that the initramfs loads, where they are not built in.
GUEST_DRIVERS=(virtio_pci virtio_blk virtio_net virtio_console virtiofs virtio-rng ext4)

# Units that have nothing to do in a guest that lives for minutes and has neither udev nor a login.
GUEST_MASKED_UNITS=(
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
	fstrim.timer getty.target getty-static.service systemd-tmpfiles-clean.timer systemd-firstboot.service
	systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-pstore.service
	systemd-binfmt.service systemd-random-seed.service systemd-user-sessions.service systemd-hwdb-update.service
	ldconfig.service systemd-update-done.service systemd-journal-catalog-update.service modprobe@.service
	systemd-tpm2-setup.service systemd-tpm2-setup-early.service systemd-sysusers.service systemd-modules-load.service
	kmod-static-nodes.service proc-sys-fs-binfmt_misc.automount systemd-sysext.socket
	systemd-ask-password-console.path systemd-ask-password-wall.path
)

guest_key() {
	{
		printf '%s\n' "$GUEST_SUITE" "$(cache_release)" "${GUEST_PACKAGES[@]}"
		cat "$PMIG_REPO/scripts/lib/guest.sh"
	} | sha256sum | cut -c 1-12
}

# guest_build makes the guest files unless they are there. Call it under the setup lock.
guest_build() {
	local key dest
	key=$(guest_key)
	dest=$PMIG_CACHE/guest-$key
	if [ ! -d "$dest" ]; then
		rm -rf "$dest.new"
		mkdir -p "$dest.new"
		guest_root "$dest.new/root"
		guest_configure "$dest.new/root"
		guest_initramfs "$dest.new"
		guest_image "$dest.new"
		cp "$(guest_kernel_file vmlinuz)" "$dest.new/vmlinuz"
		cache_release >"$dest.new/release"
		rm -rf "$dest.new/root"
		mv "$dest.new" "$dest"
	fi
	ln -sfnT "guest-$key" "$PMIG_CACHE/guest"
}

# guest_kernel_file vmlinuz prints where the unpacked kernel package has it.
guest_kernel_file() {
	local image=$PMIG_CACHE/image release path
	release=$(cache_release)
	for path in "$image/boot/$1-$release" "$image/$1"; do
		if [ -f "$path" ]; then
			printf '%s\n' "$path"
			return
		fi
	done
	die "no $1 in $image"
}

guest_root() {
	local root=$1 mirror packages
	mirror=$(debian_mirror)
	packages=$(IFS=,; printf '%s' "${GUEST_PACKAGES[*]}")
	host_packages debootstrap xz-utils
	step "making the guests' root file system ($GUEST_SUITE)"
	# In two stages, so that the settings are there when the packages are configured.
	unshare --mount --propagation private debootstrap --foreign --variant=minbase --include="$packages" \
		"$GUEST_SUITE" "$root" "$mirror" >&2
	mkdir -p "$root/etc/dpkg/dpkg.cfg.d" "$root/etc/postgresql-common"
	{
		echo force-unsafe-io
		printf 'path-exclude=/usr/share/%s/*\n' doc man locale info lintian
	} >"$root/etc/dpkg/dpkg.cfg.d/pmig"
	printf 'create_main_cluster = false\n' >"$root/etc/postgresql-common/createcluster.conf"
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod +x "$root/usr/sbin/policy-rc.d"
	chroot_run "$root" -- /debootstrap/debootstrap --second-stage >&2
	rm -rf "$root/usr/sbin/policy-rc.d" "$root/debootstrap" "$root"/var/cache/apt/archives/*.deb \
		"$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/usr/share/{doc,man,locale,info,lintian}
}

guest_configure() {
	local root=$1 unit release
	release=$(cache_release)
	step "configuring it"
	mkdir -p "$root/pmig" "$root/shared" "$root/usr/lib/modules"
	cp -a "$PMIG_CACHE/image/usr/lib/modules/$release" "$root/usr/lib/modules/"
	chroot "$root" depmod "$release"

	: >"$root/etc/fstab"
	: >"$root/etc/machine-id"
	echo node >"$root/etc/hostname"
	cat >"$root/etc/hosts" <<-'END'
		127.0.0.1 localhost
		::1 localhost ip6-localhost ip6-loopback
		10.77.0.1 host
		10.77.0.11 node1
		10.77.0.12 node2
		10.77.0.13 node3
	END
	: >"$root/etc/resolv.conf"
	# An ordinary user for tests that need one. Same number everywhere, as in a cluster.
	chroot "$root" useradd --uid 1000 --create-home --shell /bin/bash user

	for unit in "$root"/etc/systemd/system/*.wants/*; do
		case ${unit##*/} in
		redis* | nginx* | postgresql*) rm -f "$unit" ;;
		esac
	done
	for unit in "${GUEST_MASKED_UNITS[@]}"; do
		ln -sfn /dev/null "$root/etc/systemd/system/$unit"
	done
	rm -f "$root/etc/init.d/redis-server" "$root/etc/init.d/nginx" "$root/etc/init.d/postgresql"
	# The runner comes with the initramfs and sets up the network, therefore it is stopped after everything that
	# needs the network. What it has started outlives it.
	cat >"$root/etc/systemd/system/pmig-runner.service" <<-'END'
		[Unit]
		Description=Test runner
		DefaultDependencies=no
		After=local-fs.target systemd-tmpfiles-setup-dev-early.service
		Before=network.target shutdown.target
		Wants=network.target
		Conflicts=shutdown.target

		[Service]
		Type=notify
		ExecStart=/run/pmig-runner
		KillMode=process
		OOMScoreAdjust=-900
		LimitNOFILE=1024:1048576

		[Install]
		WantedBy=sysinit.target
	END
	mkdir -p "$root/etc/systemd/system/sysinit.target.wants" "$root/etc/systemd/journald.conf.d"
	ln -sfn ../pmig-runner.service "$root/etc/systemd/system/sysinit.target.wants/pmig-runner.service"
	ln -sfn /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
	printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/pmig.conf"
}

# guest_driver_files ROOT DRIVER… prints the module files to load, in order, relative to the modules directory.
guest_driver_files() {
	local root=$1 release driver line
	release=$(cache_release)
	shift
	for driver in "$@"; do
		line=$(grep -E "(^|/)${driver//[-_]/[-_]}\.ko[^/:]*:" "$root/usr/lib/modules/$release/modules.dep") || continue
		# "a.ko: b.ko c.ko" names what a.ko needs, the nearest first.
		printf '%s\n' "${line//:/}" | tr ' ' '\n' | sed '/^$/d' | tac
	done | awk '!seen[$0]++'
}

guest_initramfs() {
	local dest=$1 root=$1/root tree=$1/initramfs release file
	release=$(cache_release)
	step "making their initramfs"
	mkdir -p "$tree"/{bin,dev,proc,sys,root,modules}
	cp "$root/bin/busybox" "$tree/bin/busybox"
	echo "$release" >"$tree/modules/release"
	while read -r file; do
		file=$root/usr/lib/modules/$release/$file
		case $file in
		*.xz) xz -dc "$file" >"$tree/modules/$(basename "${file%.xz}")" ;;
		*.zst) zstd -dcq "$file" >"$tree/modules/$(basename "${file%.zst}")" ;;
		*) cp "$file" "$tree/modules/" ;;
		esac
		file=${file%.xz}
		basename "${file%.zst}" >>"$tree/modules/list"
	done < <(guest_driver_files "$root" "${GUEST_DRIVERS[@]}")
	cat >"$tree/init" <<-'END'
		#!/bin/busybox sh
		# Kernel command line: pmig.init=<init to start>
		bb=/bin/busybox
		fail() { echo "initramfs: $*" >/dev/console; exit 1; }
		$bb mount -t devtmpfs dev /dev
		$bb mount -t proc proc /proc
		# Another kernel, such as one for debugging, has them built in.
		if [ "$($bb uname -r)" = "$($bb cat /modules/release)" ]; then
			while read -r module; do
				$bb insmod "/modules/$module" || fail "cannot load $module"
			done </modules/list
		fi
		init=/run/pmig-runner
		read -r line </proc/cmdline
		for word in $line; do
			case $word in pmig.init=*) init=${word#pmig.init=} ;; esac
		done
		n=0
		until [ -b /dev/vda ]; do
			n=$((n + 1))
			[ $n -lt 500 ] || fail "no disk"
			$bb usleep 20000
		done
		$bb mount -t ext4 -o relatime /dev/vda /root || fail "cannot mount the root file system"
		$bb mount -t tmpfs -o mode=0755,nosuid,nodev,size=25% tmpfs /root/run
		$bb mount --move /dev /root/dev
		$bb mount --move /proc /root/proc
		$bb cp /runner /root/run/pmig-runner
		exec $bb switch_root /root "$init"
	END
	chmod +x "$tree/init"
	# uncompressed: unpacking under emulation costs more than reading
	chroot_run "$(readlink -f "$PMIG_CACHE/tools")" --bind "$dest:/mnt" -- \
		sh -c 'cd /mnt/initramfs && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 >/mnt/initramfs.cpio'
	rm -rf "$tree"
}

guest_image() {
	local dest=$1 size
	step "making the disk image"
	size=$(($(du -sm "$dest/root" | cut -f 1) + 2048))
	chroot_run "$(readlink -f "$PMIG_CACHE/tools")" --bind "$dest:/mnt" -- \
		mke2fs -q -t ext4 -L pmig-root -E lazy_itable_init=0,lazy_journal_init=0 -d /mnt/root /mnt/root.ext4 "${size}M" >&2
}
