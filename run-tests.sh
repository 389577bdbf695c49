#!/usr/bin/env bash
# Sets up what is missing, then runs every check and every test. The last line says how many passed and
# failed; the status is 0 only where none failed.
#
#   ./run-tests.sh [--quick]     --quick leaves out the tests that boot QEMU

set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

quick=no
for argument in "$@"; do
    case $argument in
        --quick) quick=yes ;;
        -h | --help)
            echo "Usage: ./run-tests.sh [--quick]     (--quick leaves out the tests that boot QEMU)"
            exit 0
            ;;
        *)
            echo "run-tests.sh: \"$argument\" is not an option (--quick, --help)" >&2
            exit 2
            ;;
    esac
done

# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"
"$root/scripts/setup.sh" --tests || exit
cd "$root" || exit
# A test that fails says why by itself; frames of the test harness would bury it.
# What the set-up has installed is there: a test that would do without it elsewhere fails here.
export BATON_TESTS_COMPLETE=1
export RUST_BACKTRACE=${BATON_TEST_BACKTRACE:-0}

passed=0
failed=0
failures=()

# Says what comes, and when: a run that is cut short shows where its time went.
begin() {
    printf '== %s (after %d min %02d s)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60))
}

# A check counts as one.
check() {
    local name=$1
    shift
    begin "$name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        failures+=("$name")
    fi
}

# A run of `cargo test` counts as the tests in it, as its own results say.
tests() {
    local name=$1 log status sums
    shift
    begin "$name"
    log=$(mktemp)
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    sums=$(awk '/^test result: / { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$log")
    rm -f "$log"
    passed=$((passed + ${sums% *}))
    failed=$((failed + ${sums#* }))
    if ((status != 0)); then
        failures+=("$name")
        # It did not build, or a test program died: no result counted that.
        [[ ${sums#* } != 0 ]] || failed=$((failed + 1))
    fi
}

# The packages, binaries and features to look at.
bare_clippy() {
    RUSTC_BOOTSTRAP=1 cargo clippy "$@" --release \
        --target x86_64-unknown-none --target-dir "${CARGO_TARGET_DIR:-target}/kernel" \
        -Zbuild-std=core,alloc,compiler_builtins -Zbuild-std-features=compiler-builtins-mem -- -D warnings
}

if command -v shellcheck >/dev/null; then
    check "shellcheck" shellcheck -x run-qemu.sh run-tests.sh scripts/*.sh .ci/run
fi
check "cargo fmt" cargo fmt --all --check
check "clippy, host" cargo clippy --workspace --all-targets -- -D warnings
check "clippy, kernel and programs" bare_clippy -p kernel -p user --bins --features kernel/machine,user/ring3
# boot/src/kernel.rs builds these, too.
for variant in next broken; do
    check "clippy, kernel-$variant" bare_clippy -p kernel --bin baton --features "machine,$variant"
done
tests "host tests" cargo test --workspace --exclude tests --no-fail-fast
tests "the ring under the model checker" cargo test -p trace --release --features loom --test model
tests "the tracer's slow path under the model checker" cargo test -p trace --release --features loom --lib quiesce
tests "sleep and wake-up under the model checker" cargo test -p kernel --release --features loom --test sleep
tests "every interrupt of a write" cargo test -p trace --release --test nesting
tests "the ring against a queue, four million operations" cargo test -p trace --release --test property
tests "host tests of the harness" cargo test -p tests --lib
if [[ $quick == no ]]; then
    tests "integration tests" cargo test -p tests --test guest --no-fail-fast
fi

for name in "${failures[@]}"; do
    echo "failed: $name"
done
begin "the end"
echo "$passed passed, $failed failed"
((failed == 0))
