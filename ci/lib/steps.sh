# shellcheck shell=bash
# Steps, tiers and their sums. Sourced by ci/test.

# Flags of every cargo call that builds: one profile, the lock file as it is.
build=(--locked --profile ci)
# What needs no engine: the default members, and the chores.
default=(--workspace --exclude whose-live-tests)
total_passed=0
total_failed=0
failed_steps=()

begin() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/whose-ci.XXXXXX")
    chmod 0755 "$scratch"
    trap 'rm -rf "$scratch"' EXIT
    unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET CARGO_BUILD_RUSTFLAGS
    # A snapshot that differs is a failure, not a file to look at later.
    export CI=1 INSTA_UPDATE=no INSTA_WORKSPACE_ROOT="$here" CARGO_TERM_COLOR=never
}

find_cargo() {
    if [[ -z ${HOME:-} ]]; then
        HOME=$(getent passwd "$EUID" | cut -d: -f6)
        export HOME
    fi
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    if ! command -v cargo >/dev/null; then
        echo "ci/test: no cargo. Install Rust $(minimum_rust) or later, with clippy and rustfmt, as" \
            "https://rustup.rs says, and run this again." >&2
        exit 1
    fi
}

minimum_rust() {
    sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml
}

# Puts the target folder outside the clone, one for each compiler.
use_cache() {
    local cache=${WHOSE_CI_CACHE:-$HOME/.cache/whose-ci} key other
    if [[ ${CI_COLD:-0} == 1 ]]; then
        cache=$scratch/cache
    fi
    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd -P)
    key=$(rustc -vV | sed -n 's/^release: //p; s/^commit-hash: \(.\{9\}\).*/\1/p' | paste -sd-)
    # What another compiler built is of no more use.
    for other in "$cache"/target-*; do
        if [[ -d $other && $other != "$cache/target-$key" ]]; then
            rm -rf "$other"
        fi
    done
    export WHOSE_CI_CACHE=$cache CARGO_TARGET_DIR=$cache/target-$key
    mkdir -p "$CARGO_TARGET_DIR"
    echo "target folder: $CARGO_TARGET_DIR"
    # Two runs must not overwrite each other's binaries.
    exec 9>"$CARGO_TARGET_DIR/lock"
    flock --nonblock 9 || { echo "waiting for another run in that folder" && flock 9; }
    forget_other_clone
}

# To cargo, the same package in two clones is one, and fresh if its files are
# older than what was built. So what another clone, or another commit, left in
# the target folder is built again; dependencies stay.
forget_other_clone() {
    local stamp=$CARGO_TARGET_DIR/clone now
    now="$here $(stat -c %i:%W "$here") $(git -c safe.directory="$here" rev-parse HEAD 2>/dev/null || echo none)"
    if [[ ! -e $stamp || $(<"$stamp") != "$now" ]]; then
        find "$CARGO_TARGET_DIR" -path '*/.fingerprint/*' \( -name 'whose*' -o -name 'xtask-*' \) \
            -prune -exec rm -rf {} +
        echo "$now" >"$stamp"
    fi
}

# step NAME COMMAND...: runs it, and counts its test results. A step that fails
# without a failed test counts as one.
step() {
    local name=$1 log=$scratch/step.log status=0 passed failed start=$SECONDS
    shift
    echo "--- $tier: $name"
    : >"$log"
    # Not through a pipe: a process that a test leaves behind would hold it open.
    tail -n +1 -s 0.2 -f "$log" &
    local tail=$!
    # What a test leaves running must not hold the lock either.
    limited "$@" >"$log" 2>&1 9>&- || status=$?
    sleep 0.5
    kill "$tail" 2>/dev/null || true
    wait "$tail" 2>/dev/null || true
    passed=$(sum passed "$log")
    failed=$(sum failed "$log")
    if [[ $status -ne 0 ]]; then
        failed_steps+=("$tier: $name")
        if [[ $failed -eq 0 ]]; then
            failed=1
        fi
    fi
    tier_passed=$((tier_passed + passed))
    tier_failed=$((tier_failed + failed))
    echo "--- $tier: $name: status $status, $((SECONDS - start)) s"
}

# Runs a command, or a function of this script, and ends it after an hour.
limited() {
    if [[ $(type -t "$1") == function ]]; then
        "$@"
    else
        timeout --kill-after=30 "${WHOSE_CI_STEP_LIMIT:-3600}" "$@"
    fi
}

# sum passed|failed LOG: over the result lines of cargo test.
sum() {
    sed -n "s/^test result: .* \([0-9][0-9]*\) $1;.*/\1/p" "$2" |
        awk '{ n += $1 } END { print n + 0 }'
}

run_tier() {
    local start=$SECONDS
    tier=$1
    tier_passed=0
    tier_failed=0
    "tier_$tier"
    if [[ $((tier_passed + tier_failed)) -eq 0 ]]; then
        failed_steps+=("$tier: no test ran")
        tier_failed=1
    fi
    total_passed=$((total_passed + tier_passed))
    total_failed=$((total_failed + tier_failed))
    echo "$tier took $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s"
    echo "$tier: $tier_passed passed, $tier_failed failed"
}

finish() {
    local failed
    for failed in ${failed_steps[@]+"${failed_steps[@]}"}; do
        echo "failed step: $failed"
    done
    echo "all took $((SECONDS / 60)) min $((SECONDS % 60)) s"
    echo "total: $total_passed passed, $total_failed failed"
    [[ ${#failed_steps[@]} -eq 0 && $total_failed -eq 0 && $total_passed -gt 0 ]]
}
