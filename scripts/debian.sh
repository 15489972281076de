# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
#
# Packages of Debian suites that the machine itself does not use, into the cache.
# Sourced after lib.sh. The caller says in $instead what can be done without them.

# The keyring which the machine's own entry for the archive names. apt tells where
# the entry stands: a stanza of a .sources file, or a line of a .list file.
signed_by()
{
	local file=${1%:*} number=${1##*:} key=
	case $file in
	*.sources)
		key=$(awk -v RS= -v n="$number" 'NR == n' "$file" |
			sed -n 's/^[Ss]igned-[Bb]y:[[:space:]]*\(\/[^[:space:]]*\)$/\1/p')
		;;
	*.list)
		key=$(sed -n "${number}s/.*signed-by=\(\/[^] ]*\).*/\1/p" "$file")
		;;
	esac
	if [ -z "$key" ]; then
		key=$(find /usr/share/keyrings -name 'debian-archive-keyring.[gp][pg][gp]' | sort | head -n 1)
	fi
	# Without one apt falls back on the keys the machine trusts.
	say "$key"
}

# The machine's own mirror of Debian: the archive itself, not its security updates.
# Without downloaded lists apt does not know the origin; then the name must do.
mirror()
{
	# shellcheck disable=SC2016
	apt-get indextargets --format \
		'$(ORIGIN)|$(LABEL)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)|$(SOURCESENTRY)|$(CREATED_BY)' |
	awk -F '|' '
		$4 != "main" || $7 != "Packages" { next }
		$1 == "Debian" && $2 == "Debian" { print $5 "|" $6; found = 1; exit }
		$1 !~ /^[A-Z][a-z]/ && $5 ~ /debian/ &&
		$3 ~ /^(bookworm|trixie|forky|duke|sid|stable|testing|unstable)$/ && other == "" { other = $5 "|" $6 }
		END { if (!found && other != "") print other }'
}

# cache_lock: keeps other makes, maybe of another checkout, from fetching to the cache
# meanwhile.
cache_lock()
{
	mkdir -p "$cache"
	exec {cache_fd}>"$cache/lock"
	flock -n "$cache_fd" && return
	say "Waiting for another make that fetches to ${cache/#"$HOME"/\~}, up to 10 minutes"
	flock -w 600 "$cache_fd" || die "${cache/#"$HOME"/\~}/lock: another make has held it for 10 minutes"
}

cache_unlock()
{
	exec {cache_fd}>&-
}

# private_apt SUITE TYPE WHAT: fetches the package lists of SUITE, TYPE "deb" or
# "deb-src", to get WHAT. Leaves apt's options in apt_options, and in apt_archives
# where to download to.
private_apt()
{
	local suite=$1 type=$2 what=$3 apt=$cache/apt/$1-$2 entry uri key
	command -v apt-get >/dev/null || die "no apt-get here to fetch $what with; $instead"
	entry=$(mirror)
	[ "$entry" ] || die "apt knows no Debian mirror to fetch $what from; $instead"
	uri=${entry%%|*}
	key=$(signed_by "${entry##*|}")
	apt_archives=$apt/archives
	mkdir -p "$apt/lists/partial" "$apt_archives/partial"
	say "$type ${key:+[signed-by=$key] }$uri $suite main" >"$apt/sources.list"
	# Lists of the project's own: the machine's apt is left as it is. What is
	# installed or pinned there must not decide on the version.
	apt_options=(-q -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
		-o Dir::State::Status=/dev/null
		-o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt"
		-o "Dir::Cache::Archives=$apt_archives" -o "APT::Sandbox::User=$(id -un)"
		-o Acquire::Languages=none -o Acquire::Retries=2)
	step "apt-update-$suite-$type" "Fetching the package list of $suite" \
		apt-get "${apt_options[@]}" -o APT::Update::Error-Mode=any update ||
		die "could not fetch the package list of Debian's $suite: is the network there? Try again, $instead"
}

# download PACKAGE TEXT COMMAND...: what apt-get COMMAND brings goes to the cache.
# The main one, *.deb or *.dsc, comes last: when it is there, all of it is.
download()
{
	local package=$1 text=$2 main
	shift 2
	(cd "$apt_archives" && step "apt-download-$package" "Downloading $text" \
		apt-get "${apt_options[@]}" "$@") ||
		die "could not download $package: is the network there? Try again, $instead"
	main=$(cd "$apt_archives" && find . -maxdepth 1 -name "${package}_*.d[es][bc]" |
		sort -V | tail -n 1 | cut -c 3-)
	(cd "$apt_archives" && sha256sum -- "${package}_"* >"$cache/$main.sha256" &&
		find . -maxdepth 1 -type f -name "${package}_*" ! -name "$main" -exec mv -t "$cache" {} + &&
		mv -- "$main" "$cache/")
}

# fetch_deb SUITE PACKAGE TEXT
fetch_deb()
{
	cache_lock
	if [ "$(cached "$2_*.deb")" ]; then
		cache_unlock
		return
	fi
	private_apt "$1" deb "$2"
	apt-cache "${apt_options[@]}" show "$2" >/dev/null 2>&1 ||
		die "Debian's $1 has no $2 (any more); $instead"
	download "$2" "$3" download "$2"
	cache_unlock
}

# fetch_debs SUITE DIRECTORY TEXT PACKAGE...: these, with all that they depend on, to a
# directory of the cache.
fetch_debs()
{
	local suite=$1 dir=$2 text=$3 package
	shift 3
	cache_lock
	if [ -d "$cache/$dir" ]; then
		cache_unlock
		return
	fi
	private_apt "$suite" deb "$text"
	for package; do
		apt-cache "${apt_options[@]}" show "$package" >/dev/null 2>&1 ||
			die "Debian's $suite has no $package (any more); $instead"
	done
	rm -f "$apt_archives"/*.deb
	# Nothing gets installed, so nobody else's lock matters.
	step "apt-download-$dir" "Downloading $text" \
		apt-get "${apt_options[@]}" -y -o Debug::NoLocking=true \
		install --download-only --no-install-recommends "$@" ||
		die "could not download $text: is the network there? Try again, $instead"
	(cd "$apt_archives" && sha256sum -- *.deb | sed "s,  ,&$dir/,") >"$cache/$dir.sha256"
	mv -- "$apt_archives" "$cache/$dir"
	cache_unlock
}

# unpack_debs NAME DIRECTORY: what fetch_debs has brought to NAME, to DIRECTORY, unless it is
# there. Without documents and the like.
unpack_debs()
{
	check_cached "$cache/$1"
	if ! cmp -s "$cache/$1.sha256" "$2/made-of"; then
		rm -rf "$2"
		mkdir -p "$2"
		step "unpack-$1" "Unpacking $1" unpack_each "$cache/$1" "$2"
		cp "$cache/$1.sha256" "$2/made-of"
	fi
}

unpack_each()
{
	local deb
	for deb in "$1"/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$2" --exclude=./usr/share/doc --exclude=./usr/share/man \
			--exclude=./usr/share/locale
	done
}

# add_programs DIRECTORY ROOT PROGRAM...: copies programs of unpacked packages to ROOT, and
# their libraries. These are of the same Debian as the programs. Its loader tells which ones,
# and must not take those for a newer CPU than the emulated one.
add_programs()
{
	local debian=$1 root=$2 loader=lib64/ld-linux-x86-64.so.2 program file
	shift 2
	mkdir -p "$root/lib64" "$root/usr/bin" "$root/usr/lib"
	cp "$debian/usr/$loader" "$root/lib64/"
	for program; do
		cp "$debian/$program" "$root/usr/bin/"
		"$debian/usr/$loader" --inhibit-cache --glibc-hwcaps-mask none \
			--library-path "$debian/usr/lib/x86_64-linux-gnu" --list "$debian/$program" >"$root.libraries"
		while read -r _ _ file _; do
			[[ $file != *.so.* || $file == */"${loader##*/}" ]] || cp "$file" "$root/usr/lib/"
		done <"$root.libraries"
	done
}

# fetch_source SUITE PACKAGE TEXT
fetch_source()
{
	cache_lock
	if [ "$(cached "$2_*.dsc")" ]; then
		cache_unlock
		return
	fi
	private_apt "$1" deb-src "the source of $2"
	apt-cache "${apt_options[@]}" showsrc --only-source "$2" 2>/dev/null | grep "^Package: $2\$" >/dev/null ||
		die "Debian's $1 has no source package $2 (any more); $instead"
	download "$2" "$3" source --download-only --only-source "$2"
	cache_unlock
}

# cached PATTERN: the newest file like that in the cache, nothing if there is none.
cached()
{
	[ -d "$cache" ] || return 0
	find "$cache" -maxdepth 1 -name "$1" | sort -V | tail -n 1
}

# apt checked the signature when it was fetched; this finds what broke since.
check_cached()
{
	(cd "$cache" && sha256sum --status -c "${1##*/}.sha256" 2>/dev/null) ||
		die "${1/#"$HOME"/\~} is damaged: remove it and run again"
}
