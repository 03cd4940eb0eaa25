# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What this machine and the Debian archive have to offer.

# host_packages PACKAGE… installs those that are missing.
host_packages() {
	local missing=() package
	for package in "$@"; do
		dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	step "installing on this machine: ${missing[*]}"
	apt-get -q update >&2
	DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" >&2
}

# apt_sources prints "URI SUITE" for every enabled binary source of this machine, one-line and deb822 form.
apt_sources() {
	local file
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$file" ] || continue
		sed -nE 's/#.*//; s/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]*)?([^[:space:]]+)[[:space:]]+([^[:space:]]+).*/\2 \3/p' "$file"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -f "$file" ] || continue
		awk '
			function flush(   u, s, i, j, n, m) {
				n = split(uris, u, " "); m = split(suites, s, " ")
				if (types ~ /(^| )deb( |$)/ && enabled !~ /^(no|false|0|off|without|disable)$/)
					for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) print u[i], s[j]
				types = uris = suites = enabled = key = ""
			}
			/^#/ { next }
			/^[[:space:]]*$/ { flush(); next }
			/^[A-Za-z-]+:/ { key = tolower($0); sub(/:.*/, "", key); sub(/^[^:]*:[[:space:]]*/, "") }
			key == "types" { types = types " " $0 }
			key == "uris" { uris = uris " " $0 }
			key == "suites" { suites = suites " " $0 }
			key == "enabled" { enabled = tolower($0) }
			END { flush() }
		' "$file"
	done
}

# debian_mirror prints the URI of the Debian archive that this machine uses, or that PMIG_MIRROR names.
debian_mirror() {
	local codename uri suite list
	if [ -n "${PMIG_MIRROR:-}" ]; then
		printf '%s\n' "$PMIG_MIRROR"
		return
	fi
	codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
	while read -r uri suite; do
		case $suite in
		"$codename" | "$codename-backports" | "$codename-updates" | stable) ;;
		*) continue ;;
		esac
		case $uri in
		mirror+file:*)
			# Debian's cloud images name a file that lists mirrors.
			list=${uri#mirror+file:}
			list=/${list#"${list%%[!/]*}"}
			[ -r "$list" ] || continue
			uri=$(sed -nE 's/#.*//; s/^[[:space:]]*([a-z+]+:[^[:space:]]+).*/\1/p' "$list" | head -n 1)
			;;
		esac
		case $uri in
		http:*/debian | https:*/debian | http:*/debian/ | https:*/debian/ | http:*/archive/debian/* | https:*/archive/debian/* | file:*/debian*)
			printf '%s\n' "${uri%/}"
			return
			;;
		esac
	done < <(apt_sources)
	# A mirror under another name: ask apt which source says it is Debian's main archive.
	uri=$(LC_ALL=C apt-cache policy 2>/dev/null |
		awk '/^ *-?[0-9]+ [a-z+]+:/ { uri = $2 } /release .*o=Debian,.*l=Debian(,|$)/ { print uri; exit }')
	[ -n "$uri" ] || die "no Debian archive in this machine's apt configuration; name one in PMIG_MIRROR"
	printf '%s\n' "${uri%/}"
}

# apt_settings ROOT gives the chroot ROOT this machine's way to reach the archive: proxies, certificates, checks.
apt_settings() {
	local root=$1 path
	mkdir -p "$root/etc/apt/apt.conf.d"
	# Only download settings: hooks of this machine (cleaners, notifiers) have no business in the chroot.
	LC_ALL=C apt-config dump | grep -E '^Acquire::' | grep -vE '^Acquire::(Languages|IndexTargets|Changelogs|CompressionTypes)' \
		>"$root/etc/apt/apt.conf.d/90pmig-host" || true
	cat >"$root/etc/apt/apt.conf.d/91pmig" <<-'END'
		APT::Install-Recommends "false";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Binary::apt-get::APT::Keep-Downloaded-Packages "false";
		APT::Sandbox::User "root";
	END
	# Files those settings name: certificates, keys, a proxy detection program.
	sed -nE 's/^[^"]*"(\/[^"]+)";$/\1/p' "$root/etc/apt/apt.conf.d/90pmig-host" | while read -r path; do
		if [ -f "$path" ]; then cp --parents -L "$path" "$root"; fi
	done
	for path in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
		if [ -f "$path" ]; then
			mkdir -p "$root$(dirname "$path")"
			cp -L --remove-destination "$path" "$root$path"
		fi
	done
}
