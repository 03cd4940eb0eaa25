# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds what the guest tests need into target/pmig/. Source common.sh first.
#
#   guest-runner      runs inside guests, statically linked
#   workloads/        programs to be migrated
#   ynl/, pmig.yaml   the kernel source's netlink tool, and the specification for it
#   qemu-tests, demo  the harness's programs
#
# To run the tests: target/pmig/qemu-tests [--list] [--summary-file FILE] [FILTER…]

GUEST_TESTS_TARGET=x86_64-unknown-linux-gnu

guest_tests_build() {
	guest_runner_build
	guest_workloads_build
	guest_ynl_copy
	(cd "$PMIG_REPO" && cargo build --release -p qemu-tests --bin qemu-tests --bin demo) >&2
	guest_tests_install "$PMIG_REPO/target/release/qemu-tests" qemu-tests
	guest_tests_install "$PMIG_REPO/target/release/demo" demo
}

guest_runner_build() {
	(
		cd "$PMIG_REPO"
		RUSTFLAGS="-C target-feature=+crt-static" \
			cargo build --release --target "$GUEST_TESTS_TARGET" -p qemu-tests --bin guest-runner
	) >&2
	guest_tests_install "$PMIG_REPO/target/$GUEST_TESTS_TARGET/release/guest-runner" guest-runner
}

# guest_tests_install FILE NAME puts a new file in place of an old one that may be in use.
guest_tests_install() {
	mkdir -p "$PMIG_REPO/target/pmig"
	cp -p "$1" "$PMIG_REPO/target/pmig/$2.new"
	mv "$PMIG_REPO/target/pmig/$2.new" "$PMIG_REPO/target/pmig/$2"
}

guest_workloads_build() {
	"$PMIG_REPO/qemu-tests/workloads/build" "$PMIG_REPO/target/pmig/workloads" >&2
}

# guest_ynl_copy puts the kernel source's own netlink tool, which is Python, where guests see it.
guest_ynl_copy() {
	local to=$PMIG_REPO/target/pmig/ynl
	if [ ! -d "$to" ]; then
		rm -rf "$to.new"
		mkdir -p "$to.new"
		cp -r "$PMIG_CACHE/kernel/tools/net/ynl/pyynl/." "$to.new/"
		mv "$to.new" "$to"
	fi
	guest_tests_install "$PMIG_REPO/kmod/pmig.yaml" pmig.yaml
}
