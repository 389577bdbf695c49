# shellcheck shell=bash
# Sourced by every script: which cargo is meant.

# rustup's own folder, for shells that have not read its profile.
if ! command -v rustup >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/rustup ]]; then
    export PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
fi
# A toolchain named in the environment would win over the one that scripts/setup.sh chooses for this folder.
unset RUSTUP_TOOLCHAIN
