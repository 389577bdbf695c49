#!/usr/bin/env bash
# Applies each mutation of trace/tests/mutations to a copy of the sources, and runs the test that must fail of it.
#
#   scripts/mutations.sh [NAME...]
#
# Prints a table: caught (by the test, with what it said), survives (the patch says why), SURVIVED, or what went wrong. Ends with 0 if
# all others were caught. Each patch
# begins with what it breaks, and the test (cargo's arguments, and its environment). First the tests are run without a mutation, where
# they must pass; MUTATIONS_UNMUTATED=no leaves that out. A test that has not ended after MUTATIONS_SECONDS (600) counts as caught:
# it hangs. Before each commit that changes an ordering: the list has to be run again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$here/scripts/environment.sh"
cd "$here"

seconds=${MUTATIONS_SECONDS:-600}
scratch=$here/target/mutations
tree=$scratch/tree
mkdir -p "$tree"
# Not where the sources themselves are built: cargo would take one for the other.
export CARGO_TARGET_DIR=$scratch/target

# The sources as they are here, in the copy. Unchanged files keep their times, so that only what differs is built.
copy() {
    git ls-files -z --cached --others --exclude-standard -- Cargo.toml Cargo.lock .cargo rust-toolchain.toml handover trace \
        boot kernel tests | while IFS= read -r -d '' file; do
        [[ -f $file ]] || continue
        if ! cmp -s "$file" "$tree/$file"; then
            mkdir -p "$tree/$(dirname "$file")"
            cp "$file" "$tree/$file"
        fi
    done
}

field() { # NAME PATCH
    sed -n "s/^$1: //p" "$2" | head -n 1
}

# Runs the test of a patch in the copy. 0: passed, 1: failed, 2: did not build.
run() { # PATCH
    local -a arguments environment
    read -ra arguments <<<"$(field Test "$1")"
    read -ra environment <<<"$(field Environment "$1")"
    # What follows the target's name (--lib, --test NAME) chooses among its tests.
    (
        cd "$tree"
        cargo test -q -p trace --release "${arguments[@]}" --no-run >"$scratch/log" 2>&1 || exit 2
        env "${environment[@]}" timeout "$seconds" \
            cargo test -p trace --release "${arguments[@]}" >"$scratch/log" 2>&1 || exit 1
        # A name that is no test's would pass always.
        grep -q '^test .* ok$' "$scratch/log" || exit 2
    )
}

# The message of the first panic in the log.
said() {
    awk '/panicked at/ { found = 1; next } found && NF { print; exit }' "$scratch/log" | cut -c1-70
}

patches=()
if (($#)); then
    for name in "$@"; do
        patches+=("trace/tests/mutations/$name.patch")
    done
else
    patches=(trace/tests/mutations/*.patch)
fi

# Our toolchain is the copy's too.
toolchain=$(rustup show active-toolchain 2>/dev/null | cut -d' ' -f1 || true)
[[ -z $toolchain ]] || export RUSTUP_TOOLCHAIN=$toolchain

copy
if [[ ${MUTATIONS_UNMUTATED:-yes} == yes ]]; then
    declare -A seen=()
    for patch in "${patches[@]}"; do
        key=$(field Environment "$patch")$(field Test "$patch")
        [[ -z ${seen[$key]:-} ]] || continue
        seen[$key]=yes
        if ! run "$patch"; then
            echo "without a mutation, this does not pass: $key" >&2
            tail -n 20 "$scratch/log" >&2
            exit 1
        fi
    done
fi

survived=0 known=0
printf '%-28s %-9s %s\n' mutation "" "test, and what it said"
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    if ! patch -s -p1 -d "$tree" <"$patch" >"$scratch/log" 2>&1; then
        printf '%-28s %-9s %s\n' "$name" "STALE" "the patch does not apply"
        survived=$((survived + 1))
    else
        status=0
        run "$patch" || status=$?
        case $status in
            0) verdict=SURVIVED ;;
            1) verdict=caught ;;
            *) verdict=BROKEN ;;
        esac
        # Those of which it is said why no test finds them.
        why=$(field Survives "$patch")
        if [[ $verdict == SURVIVED && -n $why ]]; then
            verdict=survives
            printf '%-28s %-9s %s: %s\n' "$name" "$verdict" "$(field Test "$patch")" "$why"
            known=$((known + 1))
            copy
            continue
        fi
        [[ $verdict == caught ]] || survived=$((survived + 1))
        printf '%-28s %-9s %s: %s\n' "$name" "$verdict" "$(field Test "$patch")" "$(said)"
    fi
    find "$tree" -name '*.orig' -delete -o -name '*.rej' -delete
    copy
done
echo "$((${#patches[@]} - survived - known)) caught of ${#patches[@]}, $known known to survive"
((survived == 0))
