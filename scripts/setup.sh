#!/usr/bin/env bash
# Finds or installs what Baton needs: a Rust toolchain that can build `core`, QEMU, and UEFI firmware.
#
#   scripts/setup.sh [--uefi] [--tests]
#
# Asks no question and installs nothing twice. Where it may not install, it prints the command for the
# person and stops with status 1. What installers print goes to target/setup.log.
#
# Two toolchains fit (shared design, "Machines and tools"):
#   Debian   /usr/bin/rustc with the library's source; linked into rustup where rustup is in front.
#   rustup   the pinned nightly of rust-toolchain.toml.
# The choice is kept as rustup's override for this directory, which a plain `cargo run` follows too.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
log=$root/target/setup.log
# The oldest compiler that builds the workspace (Cargo.toml, rust-version).
least_rust=1.95
# The name under which Debian's toolchain is linked into rustup.
linked=baton-debian
debian_rust=(rustc-web cargo-web rust-web-src rust-web-llvm)
debian_lints=(rust-web-clippy rustfmt-web)

want_uefi=no
want_tests=no
for argument in "$@"; do
    case $argument in
        --uefi) want_uefi=yes ;;
        --tests) want_tests=yes want_uefi=yes ;;
        *)
            echo "setup: $argument is not an option of setup.sh (--uefi, --tests)." >&2
            exit 2
            ;;
    esac
done

# shellcheck source=scripts/environment.sh
source "$root/scripts/environment.sh"

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command with its output in the log; shows the log's end when it fails.
logged() {
    local before
    mkdir -p "$(dirname "$log")"
    printf '\n$ %s\n' "$*" >>"$log"
    before=$(wc -l <"$log")
    if RUST_BACKTRACE=0 "$@" >>"$log" 2>&1 </dev/null; then
        return 0
    fi
    say "this command failed: $*"
    tail -n "+$((before + 1))" "$log" | tail -n 8 | sed 's/^/    /' >&2
    return 1
}

is_root() { [[ $(id -u) -eq 0 ]]; }

may_install() { is_root && have apt-get; }

# ---- Debian packages -----------------------------------------------------------------------------

apt_updated=no
apt_update() {
    if [[ $apt_updated == no ]]; then
        say "reading the package lists"
        # Old lists may do: a failure shows again at the installation.
        logged apt-get update || true
        apt_updated=yes
    fi
}

apt_install() {
    apt_update
    say "installing $* (log: ${log#"$root"/})"
    DEBIAN_FRONTEND=noninteractive logged apt-get -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 install "$@"
}

# Is there a package of that name, new enough to build Baton?
apt_has_rust() {
    local version
    version=$(apt-cache policy rustc-web 2>/dev/null | sed -n 's/^ *Candidate: *//p')
    [[ -n $version && $version != "(none)" ]] && dpkg --compare-versions "$version" ge "$least_rust"
}

# Version A is at least version B, both as dotted numbers.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# What trace-cmd and KernelShark decode with: tests hold pages and formats against it.
have_libtraceevent() {
    echo '#include <traceevent/kbuffer.h>' | cc -E - >/dev/null 2>&1
}

# The programs and packages needed besides the toolchain, as Debian calls them.
missing_packages() {
    have qemu-system-x86_64 || echo qemu-system-x86
    have cc || echo gcc libc6-dev
    # Where it can be installed it is, once and for all; elsewhere only --uefi needs it.
    if [[ $want_uefi == yes ]] || may_install; then
        compgen -G '/usr/share/[Oo][Vv][Mm][Ff]/OVMF_CODE*.fd' >/dev/null ||
            compgen -G '/usr/share/edk2*/*/OVMF_CODE*' >/dev/null ||
            compgen -G '/usr/share/edk2*/*/*/OVMF_CODE*' >/dev/null ||
            [[ -n ${BATON_OVMF_CODE:-} ]] || echo ovmf
    fi
    if [[ $want_tests == yes ]]; then
        have dtc || echo device-tree-compiler
        have_libtraceevent || echo libtraceevent-dev
    fi
}

# ---- Debian's toolchain --------------------------------------------------------------------------

debian_sysroot() { /usr/bin/rustc --print sysroot 2>/dev/null; }

debian_version_fits() {
    [[ -x /usr/bin/rustc && -x /usr/bin/cargo ]] || return 1
    # rustup puts its own proxies in /usr/bin on some systems.
    [[ ! /usr/bin/rustc -ef $(command -v rustup || echo /nowhere) ]] || return 1
    at_least "$(/usr/bin/rustc --version 2>/dev/null | cut -d' ' -f2)" "$least_rust"
}

debian_tools_folder() {
    echo "$(debian_sysroot)/lib/rustlib/$(/usr/bin/rustc -vV | sed -n 's/^host: //p')/bin"
}

# The compiler, the library's source, the linker for the bare target, and the tools that the
# bootloader's build looks for in the sysroot.
debian_ready() {
    debian_version_fits &&
        [[ -f $(debian_sysroot)/lib/rustlib/src/rust/library/core/Cargo.toml ]] &&
        [[ -x /usr/bin/rust-lld ]] &&
        [[ -x $(debian_tools_folder)/llvm-objcopy && -x $(debian_tools_folder)/llvm-objdump ]]
}

# /usr/bin/rust-lld is a link to lld-NN, which is a package of its own that nothing depends on.
debian_linker_package() { basename "$(readlink /usr/bin/rust-lld || echo lld)"; }

# The links that Debian leaves out: llvm-tools' names for the tools in the sysroot.
debian_tool_links() {
    local folder version tool
    folder=$(debian_tools_folder)
    version=$(debian_linker_package)
    for tool in llvm-objcopy llvm-objdump; do
        [[ -x $folder/$tool ]] || echo "ln -sf /usr/bin/$tool-${version#lld-} $folder/$tool"
    done
}

# Does the folder lack only what root could add with a link or two?
debian_installed() {
    debian_version_fits &&
        [[ -f $(debian_sysroot)/lib/rustlib/src/rust/library/core/Cargo.toml && -x /usr/bin/rust-lld ]]
}

debian_finish() {
    local link
    while read -r link; do
        # Unquoted on purpose: the line is a command of plain words.
        # shellcheck disable=SC2086
        [[ -z $link ]] || logged $link || fail "a link in the sysroot could not be made: $link"
    done < <(debian_tool_links)
}

debian_install() {
    apt_install "${debian_rust[@]}" || return 1
    [[ -x /usr/bin/rust-lld ]] || apt_install "$(debian_linker_package)" || return 1
    debian_finish
    debian_ready || say "Debian's Rust was installed, but is not complete; see ${log#"$root"/}"
    debian_ready
}

# ---- rustup --------------------------------------------------------------------------------------

pinned() { sed -n 's/^channel *= *"\(.*\)"/\1/p' "$root/rust-toolchain.toml"; }

pinned_ready() {
    have rustup || return 1
    local sysroot
    sysroot=$(rustc "+$(pinned)" --print sysroot 2>/dev/null) || return 1
    [[ -f $sysroot/lib/rustlib/src/rust/library/core/Cargo.toml ]] &&
        compgen -G "$sysroot/lib/rustlib/*/bin/llvm-objcopy" >/dev/null
}

pinned_install() {
    say "installing Rust $(pinned) with rustup (log: ${log#"$root"/})"
    logged rustup toolchain install "$(pinned)" --profile minimal --no-self-update \
        --component rust-src --component llvm-tools --component rustfmt --component clippy
}

# Makes rustup use this toolchain in this checkout, whichever way it is started.
choose() {
    have rustup || return 0
    local current
    current=$(rustup override list 2>/dev/null | awk -v root="$root" '$1 == root { print $2 }')
    # rustup shows the full name, with the host at its end.
    [[ $current == "$1" || $current == "$1"-* ]] || logged rustup override set "$1" --path "$root" ||
        fail "rustup could not be told to use $1 in $root."
}

choose_debian() {
    have rustup || return 0
    local target
    target=$(rustup toolchain list -v 2>/dev/null | awk -v name="$linked" '$1 == name { print $NF }')
    [[ -n $target && $target -ef $(debian_sysroot) ]] ||
        logged rustup toolchain link "$linked" "$(debian_sysroot)" ||
        fail "Debian's Rust could not be linked into rustup."
    choose "$linked"
}

toolchain() {
    if debian_ready; then
        choose_debian
    elif pinned_ready; then
        choose "$(pinned)"
    elif is_root && debian_installed; then
        debian_finish
        choose_debian
    elif may_install && { apt_has_rust || { apt_update && apt_has_rust; }; } && debian_install; then
        choose_debian
    elif have rustup && pinned_install; then
        choose "$(pinned)"
    elif debian_installed; then
        fail "Debian's Rust lacks links in its sysroot; run: $(debian_tool_links | sed 's/^/sudo /' | paste -sd ';')"
    elif have apt-get && apt_has_rust; then
        fail "a Rust toolchain is missing; run: sudo apt-get install ${debian_rust[*]} lld-22"
    else
        local first=""
        have rustup || first="install rustup (https://rustup.rs), then "
        fail "a Rust toolchain is missing; ${first}run: rustup toolchain install $(pinned)" \
            "--profile minimal --component rust-src,llvm-tools,rustfmt,clippy"
    fi
}

# rustfmt and clippy of the toolchain that was chosen; only the tests need them.
lints() {
    if debian_ready && ! { [[ -x /usr/bin/cargo-clippy && -x /usr/bin/cargo-fmt ]]; }; then
        if ! pinned_ready || have_override "$linked"; then
            echo "${debian_lints[@]}"
        fi
    fi
}

have_override() { have rustup && rustup override list 2>/dev/null | grep -q -- "$1"; }

toolchain
read -ra packages <<<"$(missing_packages | paste -sd ' ')"
if [[ $want_tests == yes ]]; then
    read -ra wanted <<<"$(lints)"
    packages+=("${wanted[@]}")
fi
if ((${#packages[@]} > 0)); then
    if may_install; then
        apt_install "${packages[@]}" ||
            fail "the packages could not be installed; try: apt-get install ${packages[*]}"
    elif have apt-get; then
        fail "programs are missing; run: sudo apt-get install ${packages[*]}"
    else
        fail "programs are missing, and no package manager that this script knows is here." \
            "Install what Debian calls: ${packages[*]}"
    fi
fi
