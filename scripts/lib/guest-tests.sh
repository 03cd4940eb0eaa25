# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds what the guest tests need into target/pmig/. Source common.sh first.
#
#   guest-runner      runs inside guests, statically linked
#   workloads/        programs to be migrated
#   qemu-tests, demo  the harness's programs
#
# To run the tests: target/pmig/qemu-tests [--list] [--summary-file FILE] [FILTER…]

GUEST_TESTS_TARGET=x86_64-unknown-linux-gnu

guest_tests_build() {
	guest_runner_build
	guest_workloads_build
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

# C sources become static programs without their ending; everything else is copied as it is.
guest_workloads_build() {
	local source name dest=$PMIG_REPO/target/pmig/workloads flags
	mkdir -p "$dest"
	for source in "$PMIG_REPO"/qemu-tests/workloads/*; do
		[ -f "$source" ] || continue
		name=$(basename "$source")
		case $name in
		*.h) continue ;;
		*.c) name=${name%.c} ;;
		esac
		[ "$dest/$name" -nt "$source" ] && [ -z "$(find "$PMIG_REPO/qemu-tests/workloads" -name '*.h' -newer "$dest/$name")" ] && continue
		case $source in
		*.c)
			# A source may ask for more: "// cflags: -mavx2"
			flags=$(sed -nE '1,20s/.*cflags: *([^*]*).*/\1/p' "$source")
			# shellcheck disable=SC2086 # several words
			gcc -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wno-format-truncation -static -pthread $flags -o "$dest/$name.new" "$source" -lm
			;;
		*) cp "$source" "$dest/$name.new" && chmod +x "$dest/$name.new" ;;
		esac
		mv "$dest/$name.new" "$dest/$name"
	done
}
