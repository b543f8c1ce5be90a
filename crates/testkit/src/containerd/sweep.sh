# Leaves nothing of an engine behind, however the test ended. Run in the engine's own directory, and
# named without it: whoever has the text of the file mark in his environment is one of the engine's,
# and so is who names a file of the directory in his arguments. gVisor's have no environment.
dir=$(pwd -P)
tasks=state/io.containerd.runtime.v2.task
# What the shims and the runtime made elsewhere is known only as long as there are bundles.
sockets=$(sed -sn 's,^unix://\(/run/containerd/s/[0-9a-f]*\)$,\1,p' $tasks/*/*/address 2>/dev/null)
known=$(cd "$tasks" 2>/dev/null && ls -d -- */* 2>/dev/null)

round=0
while [ $round -lt 500 ]; do
    pids=$({
        timeout 20 grep -laFf mark /proc/[0-9]*/environ
        timeout 20 grep -laFf place /proc/[0-9]*/cmdline
    } 2>/dev/null | cut -d/ -f3 | sort -u)
    [ -n "$pids" ] || break
    for pid in $pids; do
        at=$(sed -n 's/^[0-9]*:freezer://p' "/proc/$pid/cgroup" 2>/dev/null)
        state=/sys/fs/cgroup/freezer$at/freezer.state
        # The root has no such file.
        [ ! -e "$state" ] || echo THAWED >"$state"
        kill -9 "$pid" 2>/dev/null
    done
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
# The deepest first; those that are not empty belong to someone else.
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
