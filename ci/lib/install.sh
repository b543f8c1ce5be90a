# shellcheck shell=bash
# Installs what a tier needs and the machine lacks. Sourced by ci/test.

# Each line: the tier, a file or command that shows it is there, the package.
needs() {
    cat <<'LIST'
fast git git
fast gcc gcc
fast /usr/include/stdio.h libc6-dev
fast setpriv util-linux
fast strace strace
fast top procps
live gcc gcc
live /usr/include/stdio.h libc6-dev
live strace strace
live busybox busybox-static
live dockerd docker.io
live docker docker.io
live containerd containerd
live /usr/lib/python3/dist-packages/grpc python3-grpcio
live runc runc
live crun crun
live runsc runsc
live podman podman
live buildah buildah
live catatonit catatonit
live /usr/lib/cni/bridge containernetworking-plugins
live /usr/lib/python3/dist-packages/grpc python3-grpcio
live runsc runsc
live lxc-start lxc
live lxd lxd
live dbus-daemon dbus
live systemd-nspawn systemd-container
live fuse-overlayfs fuse-overlayfs
live mkfs.btrfs btrfs-progs
live mkfs.ext4 e2fsprogs
live mkfs.xfs xfsprogs
live mksquashfs squashfs-tools
live mkfs.erofs erofs-utils
live firejail firejail
live bwrap bubblewrap
live docker-compose docker-compose
live iptables iptables
live rootlesskit rootlesskit
live newuidmap uidmap
live dbus-daemon dbus-daemon
live /usr/lib/systemd/user/dbus.socket dbus-user-session
live useradd passwd
live /usr/sbin/iotop-py iotop
live /usr/sbin/iotop-c iotop-c
live pidstat sysstat
live top procps
live lsof lsof
live pstree psmisc
live perf linux-perf
live bpftrace bpftrace
live systemd-cgtop systemd
live /lib/systemd/systemd-journal-remote systemd-journal-remote
live coredumpctl systemd-coredump
live ss iproute2
live netstat net-tools
live script bsdutils
live gdb gdb
live addr2line binutils
live jq jq
deep gcc gcc
deep g++ g++
deep clang-14 clang-14
deep llvm-strip-14 llvm-14
deep /usr/include/stdio.h libc6-dev
LIST
}

# The packages of these tiers that are missing, a line each.
missing() {
    local tier sign package
    needs | while read -r tier sign package; do
        if [[ " $* " == *" $tier "* && ! -e $sign ]] && ! command -v "$sign" >/dev/null; then
            echo "$package"
        fi
    done | sort -u
}

install_missing() {
    local packages
    # The engines live in sbin, which an ordinary login may not search.
    PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
    mapfile -t packages < <(missing "$@")
    if [[ ${#packages[@]} -eq 0 ]]; then
        return
    fi
    echo "missing: ${packages[*]}"
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "ci/test: only root on Debian can install them; going on without" >&2
        return
    fi
    hold_daemons
    export DEBIAN_FRONTEND=noninteractive
    local apt=(apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
    local status=0
    keep_dumps
    "${apt[@]}" update || echo "ci/test: apt-get update failed; trying what is known" >&2
    "${apt[@]}" install --no-install-recommends "${packages[@]}" || status=$?
    release_daemons
    restore_dumps
    if [[ $status -ne 0 ]]; then
        echo "ci/test: apt-get could not install ${packages[*]}" >&2
    fi
}

# systemd-coredump takes over the core dumps of the running kernel when it is
# installed. Only its reader is needed.
dump_settings=(kernel/core_pattern kernel/core_pipe_limit fs/suid_dumpable)
keep_dumps() {
    local name
    declare -gA dumps=()
    for name in "${dump_settings[@]}"; do
        dumps[$name]=$(<"/proc/sys/$name")
    done
}

restore_dumps() {
    local name
    for name in "${dump_settings[@]}"; do
        if [[ $(<"/proc/sys/$name") != "${dumps[$name]}" ]]; then
            echo "${dumps[$name]}" >"/proc/sys/$name"
        fi
    done
}

# Debian starts a daemon when its package is installed, unless told not to. The
# tests start their own.
policy=/usr/sbin/policy-rc.d
hold_daemons() {
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
        trap 'rm -f "$policy"; rm -rf "$scratch"' EXIT
        policy_is_ours=1
    fi
}

release_daemons() {
    if [[ ${policy_is_ours:-0} == 1 ]]; then
        rm -f "$policy"
        policy_is_ours=0
        trap 'rm -rf "$scratch"' EXIT
    fi
}
