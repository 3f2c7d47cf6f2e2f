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

# The compiler that builds the bundled SQLite.
need_c_compiler() {
    has "${CC:-cc}" || fail "a C compiler is missing (${CC:-cc}); install it with: $(how_to_install gcc)"
}

need_cargo() {
    if ! has cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    need cargo "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
}

# The command that installs a system package on this machine.
how_to_install() {
    if has apt-get; then
        echo "sudo apt-get install -y $1"
    elif has dnf; then
        echo "sudo dnf install -y $1"
    elif has pacman; then
        echo "sudo pacman -S $1"
    elif has apk; then
        echo "sudo apk add $1 musl-dev"
    else
        echo "your system's package manager, package $1"
    fi
}

# Whether a Docker engine answers, and soon.
docker_answers() {
    has docker && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}
