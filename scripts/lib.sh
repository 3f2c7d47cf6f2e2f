# shellcheck shell=bash
# What the scripts share. Sourced, never run.

# The top of the workspace, wherever the caller stands.
# shellcheck disable=SC2034 # used by those who source this
top="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '==> %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# need TOOL HOW: ends with how to install TOOL unless it is there.
need() {
    has "$1" || fail "$1 is missing; install it with: $2"
}

# The compiler that builds the bundled SQLite and links everything. It has to have its headers too.
need_c_compiler() {
    # shellcheck disable=SC2119
    compiles || fail "a C compiler (${CC:-cc}) with its headers is missing; install it with: $(how_to_install c)"
}

# compiles [FLAG...]: whether the C compiler makes a program.
# shellcheck disable=SC2120 # the flag comes from another script
compiles() {
    "${CC:-cc}" "$@" -x c -o /dev/null - >/dev/null 2>&1 <<'END'
#include <stdio.h>
int main(void) { return puts("yes") < 0; }
END
}

# The oldest Rust that the workspace declares, or a newer one.
need_cargo() {
    local rustup="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" wanted version
    if ! has cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    has curl || rustup="$(how_to_install curl) && $rustup"
    need cargo "$rustup"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml")
    version=$(cargo --version | cut -d ' ' -f 2)
    [ "$(printf '%s\n' "$wanted" "$version" | sort -V | head -n 1)" = "$wanted" ] ||
        fail "Rust $wanted or newer is needed, this is $version; update it with: rustup update stable" \
            "(without rustup: $rustup)"
}

# how_to_install c|static-libc|PACKAGE: the command that does it on this machine.
how_to_install() {
    local root="sudo " what="$1"
    [ "$(id -u)" != 0 ] || root=
    if has apt-get; then
        case $what in c | static-libc) what="gcc libc6-dev" ;; esac
        echo "${root}apt-get install -y $what"
    elif has dnf; then
        case $what in c) what="gcc" ;; static-libc) what="glibc-static" ;; esac
        echo "${root}dnf install -y $what"
    elif has pacman; then
        case $what in c) what="gcc" ;; static-libc) what="glibc" ;; esac
        echo "${root}pacman -S $what"
    elif has apk; then
        case $what in c | static-libc) what="gcc musl-dev" ;; esac
        echo "${root}apk add $what"
    else
        case $what in c) what="gcc" ;; esac
        echo "your system's package manager: $what"
    fi
}

# What `build_static` needs besides cargo.
need_static_libc() {
    compiles -static ||
        fail "a C compiler with a static C library is missing; install it with: $(how_to_install static-libc)"
}

# build_static PROFILE PACKAGE BINARY: builds a program that needs nothing of the system that it runs
# on. Its path is then in $binary.
build_static() {
    local profile="$1" triple variable
    # With the target named, the flag does not reach build scripts and procedural macros, which
    # cannot be static.
    triple=$(rustc -vV | sed -n 's/^host: //p')
    variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$triple")_RUSTFLAGS
    env "$variable=-C target-feature=+crt-static" cargo build --locked --package "$2" --bin "$3" \
        --target "$triple" --profile "$profile"
    # Cargo calls the folder of the profile `dev` by another name.
    binary=${CARGO_TARGET_DIR:-target}/$triple/${profile/#dev/debug}/$3
    [[ -x $binary ]] || fail "$binary was not built"
    # A dynamic program names its interpreter, which an empty image does not have.
    if LC_ALL=C grep --text --quiet --extended-regexp '/(ld-linux[^/]*|ld-musl[^/]*|ld64)\.so' \
        <(head --bytes=4096 "$binary"); then
        fail "$binary is not static: is the static C library there? Install it with: $(how_to_install static-libc)"
    fi
}

# Whether a Docker engine answers, and soon.
docker_answers() {
    has docker && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}
