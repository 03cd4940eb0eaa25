# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Finding the kernel to build for, and preparing its tree. Everything here works on a chroot given as ROOT.

# kernel_candidates ROOT prints "RELEASE VERSION SERIES" for every kernel whose image, headers and source packages
# exist in one Debian version, the newest first.
kernel_candidates() {
	# shellcheck disable=SC2016 # the inner shell and awk expand
	chroot_run "$1" -- sh -c '
		apt-get indextargets --format "\$(FILENAME)" "Created-By: Packages" |
			while read -r list; do /usr/lib/apt/apt-helper cat-file "$list"; done' |
		awk '
			$1 == "Package:" { package = $2 }
			$1 == "Version:" && package ~ /^linux-(image|headers|source)-[0-9]/ { print package, $2 }' |
		awk -v flavour=cloud-amd64 '
			{ have[$1, $2] = 1 }
			$1 ~ "^linux-image-[0-9].*-" flavour "$" { image[$0] = 1 }
			END {
				for (line in image) {
					split(line, f, " ")
					release = substr(f[1], length("linux-image-") + 1)
					split(release, v, /[.+-]/)
					series = v[1] "." v[2]
					if ((("linux-headers-" release), f[2]) in have && (("linux-source-" series), f[2]) in have)
						print release, f[2], series
				}
			}' | sort -k2,2Vr
}

# kernel_choose ROOT prints the first candidate that has Rust support which the compiler of ROOT fits.
kernel_choose() {
	local root=$1 release version series work config rustc want count=0
	rustc=$(chroot_run "$root" -- rustc --version)
	while read -r release version series; do
		count=$((count + 1))
		work=/tmp/pmig-headers
		chroot_run "$root" -- sh -c "rm -rf $work && mkdir -p $work && cd $work &&
			apt-get -q download linux-headers-$release=$version >&2 && dpkg-deb -x linux-headers-*.deb . && rm linux-headers-*.deb" </dev/null
		config=$root$work/usr/src/linux-headers-$release/.config
		if ! grep -qx 'CONFIG_RUST=y' "$config"; then
			note "$release: no Rust support"
			continue
		fi
		# Rust has no stable ABI and mangled names carry the compiler's version: it must be the very same one.
		want=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"$/\1/p' "$config")
		if [ "$want" != "$rustc" ]; then
			note "$release: built with \"$want\", but the chroot has \"$rustc\""
			continue
		fi
		printf '%s %s %s\n' "$release" "$version" "$series"
		return
	done < <(kernel_candidates "$root")
	die "none of $count kernels in the archive (image, headers and source of one version) was built with Rust support for this compiler"
}

# kernel_image ROOT RELEASE VERSION DEST unpacks the signed kernel into DEST: vmlinuz, config,
# System.map, and the modules below lib/modules.
kernel_image() {
	# shellcheck disable=SC2016 # the inner shell expands
	chroot_run "$1" --bind "$4:/pmig/out" -- sh -euc '
		work=$(mktemp -d) && cd "$work"
		seen=" "
		todo=linux-image-$1
		# The image package may be a mere list of the packages that hold its parts.
		while [ -n "$todo" ]; do
			next=
			for package in $todo; do
				case $seen in *" $package "*) continue ;; esac
				seen="$seen$package "
				apt-get -q download "$package=$2" >&2
				next="$next $(apt-cache show "$package=$2" | sed -n "s/^Depends: //p" | tr ",|" "\n\n" |
					sed "s/^ *//; s/ .*//" | grep -F -- "-$1" | tr "\n" " " || true)"
			done
			todo=$(echo $next)
		done
		for deb in *.deb; do dpkg-deb -x "$deb" /pmig/out; done
		rm -rf "$work"
		cd /pmig/out
		if [ ! -e lib ]; then ln -s usr/lib lib; fi
		# Newer packages keep everything below usr/lib/modules. One name for both:
		mkdir -p boot
		for file in vmlinuz config System.map; do
			if [ ! -e "boot/$file-$1" ]; then ln -s "../usr/lib/modules/$1/$file" "boot/$file-$1"; fi
			ln -s "boot/$file-$1" "$file"
		done
		depmod -b /pmig/out "$1"
	' kernel_image "$2" "$3"
	[ -f "$4/vmlinuz" ] || die "the packages of linux-image-$2 hold no vmlinuz"
}

# kernel_tree ROOT RELEASE VERSION SERIES DEST makes DEST a tree that modules for RELEASE can be built against.
kernel_tree() {
	# shellcheck disable=SC2016 # the inner shell expands
	PMIG_PASS="" chroot_run "$1" --bind "$5:/pmig/kernel" -- sh -euc '
		release=$1 version=$2 series=$3
		work=$(mktemp -d) && cd "$work"
		echo "    downloading the source of $release ($version)" >&2
		apt-get -q download "linux-source-$series=$version" "linux-headers-$release=$version" >&2
		mkdir source headers
		dpkg-deb --fsys-tarfile linux-source-*.deb | tar -x -C source --wildcards "./usr/src/linux-source-$series.tar.*"
		dpkg-deb -x linux-headers-*.deb headers
		rm ./*.deb
		echo "    unpacking it" >&2
		tar -x -C /pmig/kernel --strip-components=1 -f source/usr/src/linux-source-"$series".tar.*
		rm -rf source

		stock=headers/usr/src/linux-headers-$release
		cd /pmig/kernel
		cp "$work/$stock/.config" .config.stock
		cp .config.stock .config
		local=${release#"$(make -s kernelversion)"}
		[ "$local" != "$release" ] || { echo "error: the source is not that of $release" >&2; exit 1; }
		set -- ARCH=x86_64 CC=x86_64-linux-gnu-gcc-14 HOSTCC=gcc-14 LOCALVERSION="$local"
		printf "%s\n" "$local" > .pmig-localversion
		echo "    configuring and preparing it" >&2
		make -s "$@" olddefconfig >&2
		diff .config.stock .config >.config.diff || true
		grep -qx "CONFIG_RUST=y" .config || { echo "error: this toolchain cannot build Rust for $release:" >&2; make "$@" rustavailable >&2; exit 1; }
		make -s -j"$(nproc)" "$@" prepare modules_prepare >&2
		got=$(make -s "$@" kernelrelease)
		[ "$got" = "$release" ] || { echo "error: the tree calls itself $got, the image $release" >&2; exit 1; }
		cp "$work/$stock/Module.symvers" .
		# A stub that holds the BTF of the image: pahole deduplicates the BTF of modules against it.
		if [ -f "$work/$stock/vmlinux" ]; then cp "$work/$stock/vmlinux" .; fi
		rm -rf "$work"
	' kernel_tree "$2" "$3" "$4"
}
