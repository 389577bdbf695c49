#!/usr/bin/env bash
# Applies each mutation of trace/tests/mutations to a copy of the sources, and runs the test that must fail of it.
#
#   scripts/mutations.sh [--resume] [NAME...]
#
# Prints a table: caught (by the test, with what it said), survives (the patch says why), or else SURVIVED, HANGS (not ended after
# MUTATIONS_SECONDS, 600), STALE (the patch does not apply), BROKEN (it does not build, or there is no such test). Ends with 0 if all
# were caught or are known to survive. Each patch begins with what it breaks, and the test (cargo's arguments, and its environment).
# A test is run without a mutation first, where it must pass; MUTATIONS_UNMUTATED=no leaves that out.
#
# All is built in one copy, target/mutations/tree, where only what a patch touches is built again. What each patch came to stands in
# target/mutations/results: with --resume, those that stand there are printed, and not run. Before each commit that changes an
# ordering, the list has to be run again, without it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$here/scripts/environment.sh"
cd "$here"

seconds=${MUTATIONS_SECONDS:-600}
scratch=$here/target/mutations
tree=$scratch/tree
results=$scratch/results
mkdir -p "$tree" "$results"
# Not where the sources themselves are built: cargo would take one for the other.
export CARGO_TARGET_DIR=$scratch/target

sources() {
    git ls-files -z --cached --others --exclude-standard -- Cargo.toml Cargo.lock .cargo rust-toolchain.toml handover trace \
        boot kernel tests user
}

# The sources as they are here, in the copy. Unchanged files keep their times, so that only what differs is built.
copy() {
    sources | while IFS= read -r -d '' file; do
        [[ -f $file ]] || continue
        if ! cmp -s "$file" "$tree/$file"; then
            mkdir -p "$tree/$(dirname "$file")"
            cp "$file" "$tree/$file"
        fi
    done
}

# Takes out of the copy what is not here any more.
clean() {
    (cd "$tree" && find . -type f -printf '%P\0') | while IFS= read -r -d '' file; do
        [[ -f $file ]] || rm -f "$tree/$file"
    done
}

field() { # NAME PATCH
    sed -n "s/^$1: //p" "$2" | head -n 1
}

# Runs the test of a patch in the copy. 0: passed, 1: failed, 2: did not build, or had no test to run, 3: did not end.
run() { # PATCH
    local -a arguments environment
    read -ra arguments <<<"$(field Test "$1")"
    read -ra environment <<<"$(field Environment "$1")"
    # What follows the target's name (--lib, --test NAME) chooses among its tests.
    (
        cd "$tree"
        cargo test -q -p trace --release "${arguments[@]}" --no-run >"$scratch/log" 2>&1 || exit 2
        status=0
        env "${environment[@]}" timeout "$seconds" \
            cargo test -p trace --release "${arguments[@]}" >"$scratch/log" 2>&1 || status=$?
        ((status != 124)) || exit 3
        ((status == 0)) || exit 1
        # A name that is no test's would pass always.
        grep -q '^test .* ok$' "$scratch/log" || exit 2
    )
}

# The message of the first panic in the log.
said() {
    awk '/panicked at/ { found = 1; next } found && NF { print; exit }' "$scratch/log" | cut -c1-70
}

resume=no
names=()
for argument in "$@"; do
    case $argument in
        --resume) resume=yes ;;
        -*)
            echo "mutations.sh: \"$argument\" is not an option (--resume)" >&2
            exit 2
            ;;
        *) names+=("$argument") ;;
    esac
done
patches=()
for name in "${names[@]}"; do
    patch=trace/tests/mutations/$name.patch
    if [[ ! -f $patch ]]; then
        echo "mutations.sh: there is no $patch" >&2
        exit 2
    fi
    patches+=("$patch")
done
((${#patches[@]})) || patches=(trace/tests/mutations/*.patch)

# Our toolchain is the copy's too.
toolchain=$(rustup show active-toolchain 2>/dev/null | cut -d' ' -f1 || true)
[[ -z $toolchain ]] || export RUSTUP_TOOLCHAIN=$toolchain

clean
copy
declare -A passes=()

# Whether the test of a patch passes without it. It is run once.
unmutated() { # PATCH
    [[ ${MUTATIONS_UNMUTATED:-yes} == yes ]] || return 0
    local key
    key="$(field Environment "$1") $(field Test "$1")"
    if [[ -z ${passes[$key]:-} ]]; then
        run "$1" || return 1
        passes[$key]=yes
    fi
}

# Applies a patch, runs its test, and prints the line of the table.
try() { # PATCH
    local patch=$1 name verdict text status=0 why
    name=$(basename "$patch" .patch)
    text=$(field Test "$patch")
    why=$(field Survives "$patch")
    if ! unmutated "$patch"; then
        verdict=BROKEN text="without the mutation, this does not pass: $text"
    elif ! patch -s -p1 -d "$tree" <"$patch" >"$scratch/log" 2>&1; then
        verdict=STALE text="the patch does not apply"
    else
        run "$patch" || status=$?
        case $status in
            0) verdict=SURVIVED ;;
            1) verdict=caught text="$text: $(said)" ;;
            3) verdict=HANGS ;;
            *) verdict=BROKEN ;;
        esac
        # Those of which it is said why no test finds them.
        if [[ $verdict == SURVIVED && -n $why ]]; then
            verdict=survives text=$why
        fi
    fi
    find "$tree" -name '*.orig' -delete -o -name '*.rej' -delete
    copy
    printf '%-28s %-9s %s\n' "$name" "$verdict" "$text"
}

caught=0 known=0
printf '%-28s %-9s %s\n' mutation "" "test, and what it said"
for patch in "${patches[@]}"; do
    result=$results/$(basename "$patch" .patch)
    if [[ $resume == no || ! -f $result ]]; then
        # Whole or not at all: this may be interrupted.
        try "$patch" >"$result.new"
        mv "$result.new" "$result"
    fi
    cat "$result"
    read -r _ verdict _ <"$result"
    case $verdict in
        caught) caught=$((caught + 1)) ;;
        survives) known=$((known + 1)) ;;
    esac
done
echo "$caught caught of ${#patches[@]}, $known known to survive"
((caught + known == ${#patches[@]}))
