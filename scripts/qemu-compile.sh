# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# How QEMU is built. Sourced after lib.sh.

# shellcheck source=scripts/debian.sh
. "$scripts/debian.sh"

instead="it is needed to build QEMU"
meson_suite=trixie
options=('--cc=ccache gcc' --target-list=x86_64-softmmu --without-default-features
	--enable-tcg --enable-system --enable-gnutls --enable-werror
	--disable-docs --disable-download --disable-install-blobs)
read -ra more <<<"${QEMU_CONFIGURE:-}"

# Debian's stable of before has a meson that is too old for QEMU 10.0.
get_meson()
{
	local deb
	deb=$(cached 'meson_*_all.deb')
	if [ -z "$deb" ]; then
		fetch_deb "$meson_suite" meson "meson"
		deb=$(cached 'meson_*_all.deb')
	fi
	check_cached "$deb"
	if [ "$(cat "$qemu_top/meson/deb" 2>/dev/null)" != "${deb##*/}" ]; then
		rm -rf "$qemu_top/meson"
		mkdir -p "$qemu_top/meson"
		dpkg-deb -x "$deb" "$qemu_top/meson"
		say "${deb##*/}" >"$qemu_top/meson/deb"
	fi
	export PYTHONPATH=$qemu_top/meson/usr/lib/python3/dist-packages
}

run_configure()
(
	rm -rf "$1" && mkdir -p "$1" && cd "$1" &&
		../src/configure "${options[@]}" ${more[0]+"${more[@]}"}
)

# configure_qemu DIR: configures DIR/src in DIR/b, unless it has been done. All else that
# matters ninja sees by itself. By these names objects are the same to ccache wherever
# DIR is.
configure_qemu()
{
	local out=$1/b configured
	get_meson
	configured=$(printf '%s\n' "$out" "$(git -C "$1/src" rev-parse base)" \
		"$(cat "$qemu_top/meson/deb")" "${options[@]}" ${more[0]+"${more[@]}"} | sha256sum)
	if [ "$(cat "$out/configured" 2>/dev/null)" != "$configured" ]; then
		step qemu-configure "Configuring QEMU" run_configure "$out"
		say "$configured" >"$out/configured"
	fi
}

# compile_qemu DIR TEXT
compile_qemu()
{
	step qemu-build "$2" ninja -C "$1/b" "-j$jobs" qemu-system-x86_64
}
