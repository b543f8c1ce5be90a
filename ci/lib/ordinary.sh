# shellcheck shell=bash
# The tests once more, as an ordinary user. Sourced by ci/test.
#
# Root builds; the test binaries are then started as nobody, each in the folder
# cargo would start it in. The clone and the target folder may lie below a
# folder only root may enter (/root, say), and the tests know their paths from
# the compiler. So this is done in a mount namespace of its own, in which a
# readable copy of the clone, and the target folder, lie at the same paths below
# folders anyone may enter. Nothing outside it changes.

nobody=65534

test_as_ordinary_user() {
    local list=$scratch/binaries tree=$scratch/tree
    record_binaries "$list" || return 1
    mkdir -p "$tree"
    git -c safe.directory="$here" ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' file; do
            # A deleted file may still be in the index.
            if [[ -e $file || -L $file ]]; then
                printf '%s\0' "$file"
            fi
        done | tar --null --no-recursion -T - -cf - | tar -xf - -C "$tree"
    chmod -R a+rX "$tree"
    export -f in_own_mounts reveal run_recorded
    export here scratch nobody CARGO_TARGET_DIR
    timeout --kill-after=30 "${WHOSE_CI_STEP_LIMIT:-3600}" \
        unshare --mount --propagation private bash -c in_own_mounts
}

# Lists the test binaries with their folders, by having cargo start a script in
# their place that writes them down.
record_binaries() {
    local list=$1 recorder=$scratch/recorder host
    printf '#!/bin/sh\nprintf "%%s\\t%%s\\n" "$PWD" "$1" >>"%s"\n' "$list" >"$recorder"
    chmod 0755 "$recorder"
    : >"$list"
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    env "CARGO_TARGET_${host}_RUNNER=$recorder" \
        cargo test "${build[@]}" --quiet "${default[@]}" --lib --bins --tests || return 1
    [[ -s $list ]]
}

in_own_mounts() {
    set -euo pipefail
    mkdir -p "$scratch/home" "$scratch/tmp"
    chown "$nobody:$nobody" "$scratch/home" "$scratch/tmp"
    # Held open, since what is mounted below may hide their paths.
    exec 6<"$scratch/tree" 7<"$CARGO_TARGET_DIR" 8<"$scratch"
    reveal 8 "$scratch"
    reveal 7 "$CARGO_TARGET_DIR"
    reveal 6 "$here"
    run_recorded
}

# reveal FD PATH: makes an open folder visible to anyone at PATH.
reveal() {
    local part=$2 closed=
    while [[ $part != / ]]; do
        part=$(dirname "$part")
        if [[ -e $part && $((0$(stat -c %a "$part") & 1)) -eq 0 ]]; then
            closed=$part
        fi
    done
    # The outermost closed folder is replaced by an empty open one.
    if [[ -n $closed ]]; then
        mount -t tmpfs -o mode=0755 whose-ci "$closed"
    fi
    mkdir -p "$2"
    mount --no-canonicalize --bind "/proc/self/fd/$1" "$2"
}

run_recorded() {
    local folder binary status=0
    while IFS=$'\t' read -r folder binary; do
        echo "as uid $nobody: ${binary##*/}"
        (
            cd "$folder"
            env -i PATH="$PATH" LANG=C.UTF-8 USER=nobody HOME="$scratch/home" TMPDIR="$scratch/tmp" \
                CI=1 INSTA_UPDATE=no INSTA_WORKSPACE_ROOT="$here" CARGO_MANIFEST_DIR="$folder" \
                setpriv --reuid "$nobody" --regid "$nobody" --clear-groups "$binary"
        ) || status=1
    done <"$scratch/binaries"
    return "$status"
}
