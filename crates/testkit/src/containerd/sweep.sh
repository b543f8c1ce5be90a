# Leaves nothing of an engine behind, however the test ended. Run in the engine's own directory, and
# named without it: whoever has the text of the file mark in his environment is one of the engine's,
# and so is who names a file of the directory in his arguments. gVisor's have no environment.
dir=$(pwd -P)
tasks=state/io.containerd.runtime.v2.task
# What the shims and the runtime made elsewhere is known only as long as there are bundles.
sockets=$(sed -sn 's,^unix://\(/run/containerd/s/[0-9a-f]*\)$,\1,p' $tasks/*/*/address 2>/dev/null)
known=$(cd "$tasks" 2>/dev/null && ls -d -- */* 2>/dev/null)

# Where its processes are: beside others' groups, if there were some before.
groups=$(printf '%s\n' "$known" | sed -n 's,^.,/&,p')
mounts=$(awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts)
thaw() {
    for group in $(printf '%s\n' "$groups" | sort -u); do
        for mount in $mounts; do
            [ ! -e "$mount$group/freezer.state" ] || echo THAWED >"$mount$group/freezer.state"
            [ ! -e "$mount$group/cgroup.freeze" ] || echo 0 >"$mount$group/cgroup.freeze"
        done
    done
}

round=0
while [ $round -lt 500 ]; do
    pids=$({
        timeout 20 grep -laFf mark /proc/[0-9]*/environ
        timeout 20 grep -laFf place /proc/[0-9]*/cmdline
    } 2>/dev/null | cut -d/ -f3 | sort -u)
    [ -n "$pids" ] || break
    for pid in $pids; do
        # The root group is not its own.
        groups="$groups
$(sed -n 's,^[^:]*:[^:]*:\(/..*\)$,\1,p' "/proc/$pid/cgroup" 2>/dev/null)"
        kill -9 "$pid" 2>/dev/null
    done
    thaw
    sleep 0.02
    round=$((round + 1))
done
[ -z "$pids" ] || echo "cleaning up after containerd: $pids don't die" >&2

for socket in $sockets; do
    rm -f "$socket"
done
printf '%s\n' "$known" | while read -r id; do
    # gVisor has files there where runc has a directory.
    [ -z "$id" ] || rm -rf "/run/containerd/runc/$id" "/run/containerd/runc/${id}_sandbox:"*
done
rmdir /run/containerd/runc/* /run/containerd/runc 2>/dev/null
# A machine's, named after the directory.
rmdir "/run/systemd/nspawn/propagate/${dir##*/}" 2>/dev/null
# Whoever was killed takes his time to leave. What the test is in itself stays.
own=$(sed 's,^[^:]*:[^:]*:,,' /proc/$$/cgroup)
groups=$(printf '%s\n' "$groups" | sort -u | grep -vxF "$own")
round=0
while [ $round -lt 50 ]; do
    left=
    for group in $groups; do
        for mount in $mounts; do
            [ ! -d "$mount$group" ] || rmdir "$mount$group" 2>/dev/null || left=1
            case $group in
            # A pod is its own as a whole; gVisor makes groups there that nobody is in.
            */pod*/* | */kubepods-*-pod*/*)
                find "$mount${group%/*}" -depth -type d -exec rmdir {} \; 2>/dev/null
                ;;
            esac
        done
    done
    [ -n "$left" ] || break
    sleep 0.02
    round=$((round + 1))
done
# The deepest first.
while read -r group; do
    round=0
    while [ -d "$group" ] && [ $round -lt 250 ]; do
        find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
        [ ! -d "$group" ] || sleep 0.02
        round=$((round + 1))
    done
done <cgroups
while read -r link; do
    case $(readlink "$link") in
    "$dir"/*) rm -f "$link" ;;
    esac
    rmdir "${link%/*}" 2>/dev/null
done <links
rm -rf --one-file-system "$dir"
