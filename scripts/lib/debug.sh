# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The debug kernel: the distribution's kernel source and configuration, without what a guest does not need, and with
# everything that finds mistakes in kernel code. Source common.sh and chroot.sh first; the tools chroot and the kernel
# tree must be there.
#
#   PMIG_CACHE/debug-kernel -> debug-kernel-<release>-<key>/
#     tree/        the source, configured, built, and ready for building modules
#     vmlinuz      the kernel
#     release      its release
#
# It is built with clang, because the kernel supports Rust together with KASAN only there. Nothing is modular, so that
# guests need no modules for it.

# What it is made from, besides the options below: raise the number when the way of making it changes.
DEBUG_VERSION=1

# What its release has in place of the distribution's flavour.
DEBUG_LOCALVERSION=-pmig-debug

# Finds mistakes.
DEBUG_CHECKS=(
	KASAN KASAN_GENERIC KASAN_INLINE KASAN_VMALLOC KASAN_STACK
	PROVE_LOCKING DEBUG_ATOMIC_SLEEP DEBUG_KMEMLEAK DEBUG_LIST DEBUG_PLIST DEBUG_SG DEBUG_NOTIFIERS
	DEBUG_OBJECTS DEBUG_OBJECTS_FREE DEBUG_OBJECTS_WORK DEBUG_OBJECTS_TIMERS DEBUG_OBJECTS_RCU_HEAD
	SLUB_DEBUG SCHED_STACK_END_CHECK DEBUG_VM DEBUG_VIRTUAL DEBUG_PREEMPT
	UBSAN UBSAN_BOUNDS UBSAN_SHIFT DETECT_HUNG_TASK SOFTLOCKUP_DETECTOR RUST_OVERFLOW_CHECKS
	RUST_DEBUG_ASSERTIONS X86_DEBUG_FPU DEBUG_ENTRY FORTIFY_SOURCE HARDENED_USERCOPY
)

# What guests need, which is modular in the distribution's kernel or the default of nothing.
DEBUG_NEEDS=(
	RUST MODULES MODULE_UNLOAD KALLSYMS_ALL DEBUG_INFO_BTF
	VIRTIO_PCI VIRTIO_BLK VIRTIO_NET VIRTIO_CONSOLE VIRTIO_FS HW_RANDOM HW_RANDOM_VIRTIO EXT4_FS FUSE_FS AUTOFS_FS
	SERIAL_8250 SERIAL_8250_CONSOLE RTC_CLASS RTC_DRV_CMOS
	NAMESPACES TIME_NS PID_NS USER_NS NET_NS CHECKPOINT_RESTORE USERFAULTFD MEM_SOFT_DIRTY PROC_PAGE_MONITOR
	PROC_CHILDREN RSEQ IO_URING AIO SECCOMP_FILTER SYSVIPC POSIX_MQUEUE MEMFD_CREATE SECRETMEM KCMP
	CGROUPS MEMCG CGROUP_PIDS CGROUP_FREEZER CPUSETS CGROUP_DEVICE BPF_SYSCALL CGROUP_BPF
	TRANSPARENT_HUGEPAGE KSM HUGETLBFS SWAP
	UNIX UNIX_DIAG INET INET_DIAG IPV6 PACKET PACKET_DIAG NETLINK_DIAG NET_SCHED NET_SCH_NETEM NET_SCH_TBF TUN
	VETH BRIDGE DUMMY OVERLAY_FS BLK_DEV_LOOP IKCONFIG IKCONFIG_PROC MAGIC_SYSRQ IA32_EMULATION NO_HZ_IDLE HIGH_RES_TIMERS
	# Saves a stack at each allocation: following frame pointers is much cheaper there than tables.
	UNWINDER_FRAME_POINTER
)

# What no guest has or uses. Each entry takes what depends on it along.
DEBUG_DROPS=(
	# hardware, firmware, other hypervisors
	XEN HYPERV INTEL_TDX_GUEST AMD_MEM_ENCRYPT X86_SGX VIRTUALIZATION EFI SUSPEND HIBERNATION CPU_FREQ X86_INTEL_PSTATE
	X86_AMD_PSTATE X86_ACPI_CPUFREQ X86_MCE X86_CPU_RESCTRL
	ACPI_APEI ACPI_HMAT ACPI_NFIT ACPI_PCC ACPI_PRMT ACPI_VIOT ACPI_HOTPLUG_MEMORY PMIC_OPREGION NUMA MAXSMP IOMMU_SUPPORT
	CXL_BUS HOTPLUG_PCI PCIEPORTBUS PCI_IOV THERMAL POWERCAP POWER_SUPPLY WATCHDOG TCG_TPM EDAC RAS MAILBOX PTP_1588_CLOCK PPS
	GOOGLE_FIRMWARE ISCSI_IBFT_FIND FB VGA_CONSOLE FRAMEBUFFER_CONSOLE DRM USB_SUPPORT HID_SUPPORT INPUT_MISC SOUND MEDIA_SUPPORT
	BLK_DEV_NVME NVME_TARGET SCSI ATA MD ZRAM NVDIMM_PFN LIBNVDIMM DAX INFINIBAND VFIO VHOST_MENU SERIAL_8250_EXTENDED
	HOTPLUG_CPU X86_PMEM_LEGACY_DEVICE DMABUF_HEAPS UDMABUF SERIAL_DEV_BUS MICROCODE STAGING MEMORY_HOTPLUG ZONE_DEVICE DAMON CMA
	GPIOLIB I2C SPI MFD_CORE IPMI_HANDLER COMEDI SURFACE_PLATFORMS CHROME_PLATFORMS X86_PLATFORM_DEVICES MISC_FILESYSTEMS
	MEMORY_FAILURE AUXILIARY_BUS HPET PCI_P2PDMA PCI_DOE REGULATOR
	# network
	ETHERNET WLAN NETFILTER MPTCP XFRM_USER INET_AH INET_ESP IP_SCTP TIPC MPLS DCB TLS_DEVICE XDP_SOCKETS NET_SWITCHDEV NETKIT
	NET_CLS NET_CLS_ACT NETLABEL IPV6_SEG6_LWTUNNEL IPV6_SEG6_HMAC IPV6_RPL_LWTUNNEL LWTUNNEL IP_MROUTE IPV6_MROUTE
	NET_L3_MASTER_DEV NETPOLL NETCONSOLE TCP_AO TCP_CONG_ADVANCED WWAN PHYLIB
	# file systems, storage
	XFS_FS BTRFS_FS NETWORK_FILESYSTEMS PSTORE FS_ENCRYPTION FS_VERITY QUOTA UNICODE NLS FSCACHE NETFS_SUPPORT EROFS_FS
	BLK_SED_OPAL BLK_DEV_INTEGRITY BLK_INLINE_ENCRYPTION BLK_DEV_ZONED IOSCHED_BFQ DM_UEVENT
	# security and crypto that guests do not use
	SECURITY_SELINUX SECURITY_TOMOYO SECURITY_LOCKDOWN_LSM SECURITY_IPE INTEGRITY IMA EVM MODULE_SIG SYSTEM_TRUSTED_KEYRING
	SECONDARY_TRUSTED_KEYRING SYSTEM_BLACKLIST_KEYRING KEXEC KEXEC_FILE CRASH_DUMP CRYPTO_SELFTESTS ENCRYPTED_KEYS
	INTEL_TXT ASYMMETRIC_KEY_TYPE SIGNED_PE_FILE_VERIFICATION
	# slow under emulation, or of no use here
	CPU_MITIGATIONS X86_KERNEL_IBT LIVEPATCH KFENCE FUNCTION_TRACER FUNCTION_GRAPH_TRACER FTRACE_SYSCALLS MMIOTRACE
	BLK_DEV_IO_TRACE HARDLOCKUP_DETECTOR RUNTIME_TESTING_MENU DEBUG_WX STACK_TRACER HIST_TRIGGERS SCHED_CLASS_EXT
	DEBUG_KMEMLEAK_DEFAULT_OFF KASAN_OUTLINE KERNEL_ZSTD RD_BZIP2 RD_LZMA RD_LZO RD_LZ4 INIT_ON_ALLOC_DEFAULT_ON
	UNWINDER_ORC NO_HZ_FULL HZ_PERIODIC DEBUG_INFO_COMPRESSED_ZSTD MODULE_COMPRESS STRICT_DEVMEM
)

debug_key() {
	{
		cache_release
		printf '%s\n' "$DEBUG_VERSION" "$DEBUG_LOCALVERSION" "${DEBUG_CHECKS[@]}" - "${DEBUG_NEEDS[@]}" - "${DEBUG_DROPS[@]}"
	} | sha256sum | cut -c 1-12
}

# debug_make [MAKE-ARGUMENT…] builds in the debug kernel's tree, bound to /pmig/debug. DEBUG_TREE names it.
debug_make() {
	tools_run --bind "$DEBUG_TREE:/pmig/debug" -- \
		nice -n 19 make -s -C /pmig/debug -j"$(nproc)" ARCH=x86_64 LLVM=1 LOCALVERSION="$DEBUG_LOCALVERSION" "$@" >&2
}

# debug_kernel_build makes the debug kernel unless it is there. It takes its time. Call it under the lock `debug`.
debug_kernel_build() {
	local dest link
	dest=$PMIG_CACHE/debug-kernel-$(cache_release)-$(debug_key)
	if [ ! -d "$dest" ]; then
		# An interrupted build goes on where it was.
		if [ ! -f "$dest.new/configured" ]; then
			rm -rf "$dest.new"
			mkdir -p "$dest.new"
			debug_tree "$dest.new/tree"
			DEBUG_TREE=$dest.new/tree debug_configure
			touch "$dest.new/configured"
		fi
		step "building the debug kernel (this takes a while, and happens once per version)"
		DEBUG_TREE=$dest.new/tree debug_make bzImage modules
		cp "$dest.new/tree/arch/x86/boot/bzImage" "$dest.new/vmlinuz"
		cp "$dest.new/tree/include/config/kernel.release" "$dest.new/release"
		mv "$dest.new" "$dest"
		for link in "$PMIG_CACHE"/debug-kernel-*; do
			case $link in "$dest" | *.new) ;; *) note "an older debug kernel can be removed: $link" ;; esac
		done
	fi
	ln -sfnT "${dest##*/}" "$PMIG_CACHE/debug-kernel"
}

# debug_tree DEST makes a clean tree of the prepared one. The source files are hard links to those, which neither build
# ever writes to; what the other build has made is unlinked, not overwritten.
debug_tree() {
	step "making a tree for the debug kernel"
	cp -al "$(readlink -f "$PMIG_CACHE/kernel")" "$1"
	DEBUG_TREE=$1 debug_make mrproper
	rm -f "$1/.pmig-localversion" "$1/.config.diff" "$1/Module.symvers" "$1/vmlinux"
}

debug_configure() {
	local arguments=() option missing=()
	step "configuring it"
	for option in "${DEBUG_DROPS[@]}"; do arguments+=(--disable "$option"); done
	for option in "${DEBUG_NEEDS[@]}" "${DEBUG_CHECKS[@]}"; do arguments+=(--enable "$option"); done
	# A new file: .config.stock is a link to that of the prepared tree. Nothing is modular.
	sed 's/^\(CONFIG_[A-Z0-9_]*\)=m$/# \1 is not set/' "$DEBUG_TREE/.config.stock" >"$DEBUG_TREE/.config"
	arguments+=(--set-val NR_CPUS 8 --set-val DEBUG_KMEMLEAK_MEM_POOL_SIZE 40000 --set-val LOCKDEP_CHAINS_BITS 17
		--set-str MODULE_SIG_KEY "" --set-str SYSTEM_TRUSTED_KEYS "" --set-val FRAME_WARN 4096
		--set-str LSM "landlock,yama,apparmor,bpf" --enable DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT)
	(cd "$DEBUG_TREE" && bash scripts/config --file .config "${arguments[@]}")
	debug_make olddefconfig
	# What others select to be modular is built in as well.
	sed -i 's/^\(CONFIG_[A-Z0-9_]*\)=m$/\1=y/' "$DEBUG_TREE/.config"
	debug_make olddefconfig
	for option in RUST KASAN_GENERIC PROVE_LOCKING DEBUG_KMEMLEAK DEBUG_ATOMIC_SLEEP DEBUG_INFO_BTF "${DEBUG_NEEDS[@]}"; do
		grep -qx "CONFIG_$option=y" "$DEBUG_TREE/.config" || missing+=("$option")
	done
	[ ${#missing[@]} = 0 ] || die "the debug kernel's configuration lacks ${missing[*]}"
}

# debug_module_build makes target/pmig/debug/, which has the module for the debug kernel, and everything else that guests
# see as it is in target/pmig/.
debug_module_build() {
	local to=$PMIG_REPO/target/pmig/debug file
	mkdir -p "$to" "$PMIG_REPO/target/pmig/kbuild-debug"
	DEBUG_TREE=$(readlink -f "$PMIG_CACHE/debug-kernel")/tree debug_make M=/pmig/repo MO=/pmig/target/kbuild-debug modules
	for file in pmigctl guest-runner pmig.yaml workloads ynl; do
		rm -rf "${to:?}/$file"
		cp -a "$PMIG_REPO/target/pmig/$file" "$to/$file"
	done
	cp "$PMIG_REPO/target/pmig/kbuild-debug/pmig.ko" "$to/pmig.ko.new"
	mv "$to/pmig.ko.new" "$to/pmig.ko"
}

# debug_environment tells the harness to use the debug kernel, and to be patient: it is several times as slow.
debug_environment() {
	export PMIG_TARGET=$PMIG_REPO/target/pmig/debug
	export PMIG_GUEST_KERNEL=$PMIG_CACHE/debug-kernel/vmlinuz
	export PMIG_GUEST_EXTRA_MEMORY=${PMIG_GUEST_EXTRA_MEMORY:-768}
	export PMIG_TIMEOUT_SCALE=${PMIG_TIMEOUT_SCALE:-10}
	# Its guests keep the processors busy; more of them would wait for each other's locks.
	export PMIG_TEST_JOBS=${PMIG_TEST_JOBS:-1}
}
