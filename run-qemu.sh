#!/usr/bin/env bash
# Sets up what is missing, builds Baton, and boots it with the console on standard input and output.
# Status 0 after the guest's `poweroff`, 2 for a wrong option, 3 after a panic of the guest.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

help() {
    cat <<'END'
Usage: ./run-qemu.sh [OPTIONS] [-- QEMU-ARGS]

Boots Baton under QEMU, with its serial console here. To leave, type: poweroff
Input that is no terminal is fed line by line, at each prompt; where it ends, the machine ends.

  --smp N              number of CPUs (default 2)
  --mem MIB            memory in MiB (default 256, at least 48)
  --uefi               start through UEFI firmware instead of a BIOS
  --append "ARGS"      the kernel's command line
  --file HOST[:NAME]   put a file of the host into the initrd, as /boot/NAME
  --icount             count instructions: each takes one virtual nanosecond
  --kernel ELF         start this kernel instead of the one that is built here
  --build-only         build the kernel and the image, but start nothing
  -v, --verbose        print QEMU's command
  -h, --help           print this
END
}

wrong() {
    echo "run-qemu.sh: $1 (--help lists the options)" >&2
    exit 2
}

# Wrong options are told before anything is installed or built; `boot` checks their values again.
setup=()
arguments=("$@")
while (($# > 0)); do
    case $1 in
        --) break ;;
        -h | --help) help && exit 0 ;;
        --uefi) setup=(--uefi) ;;
        --icount | --build-only | -v | --verbose) ;;
        --smp | --mem)
            [[ ${2:-} =~ ^[0-9]+$ ]] || wrong "$1 needs a number, not \"${2:-}\""
            shift
            ;;
        --append | --file | --kernel)
            (($# > 1)) || wrong "$1 needs a value"
            shift
            ;;
        --smp=* | --mem=*)
            [[ ${1#*=} =~ ^[0-9]+$ ]] || wrong "${1%%=*} needs a number, not \"${1#*=}\""
            ;;
        --append=* | --file=* | --kernel=*) ;;
        *) wrong "\"$1\" is not an option" ;;
    esac
    shift
done

# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"
"$root/scripts/setup.sh" "${setup[@]}"

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
quiet=(--quiet)
if [[ ! -x $CARGO_TARGET_DIR/debug/boot ]]; then
    echo "run-qemu.sh: building; the first time takes some minutes" >&2
    quiet=()
fi
# Cargo and rustup go by the current folder; --file and --kernel go by the caller's.
(cd "$root" && cargo build --package boot "${quiet[@]}")
exec "$CARGO_TARGET_DIR/debug/boot" "${arguments[@]}"
