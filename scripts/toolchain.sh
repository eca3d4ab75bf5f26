# Sourced by the scripts beside it: finds the tools a build needs, and installs them where it may.
# shellcheck shell=bash
#
#   ensure_tools TOOL...   TOOL: cargo, cmake, make, c++, libclang, pip, chromium
#
# Returns when every tool is there. Otherwise it tries apt-get (as root, or with a sudo that asks
# for no password; never when AIRD_NO_INSTALL is set), and if that does not help it says what to
# install and returns 1. It never asks a question and prints on stderr only.

say() { printf '%s\n' "$*" >&2; }

# What these scripts build stays on this machine, so it is built for its CPU. cargo keeps the two
# builds of llama.cpp apart. RUSTFLAGS="" makes a script build what runs on any CPU.
export RUSTFLAGS=${RUSTFLAGS--C target-cpu=native}

# rustup's installer leaves PATH to the next login.
if ! command -v cargo >/dev/null 2>&1 && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
fi

# True if one of the given paths exists: an unmatched glob stays as it is, and does not exist.
any_exists() {
    local path
    for path in "$@"; do
        [ -e "$path" ] && return 0
    done
    return 1
}

holds_libclang() {
    any_exists "$1"/libclang.so* "$1"/libclang-[0-9]*.so* "$1"/libclang.dylib
}

# llama.cpp's bindings are made by bindgen, which loads libclang while it builds. LIBCLANG_PATH is
# set only where bindgen would not look by itself: to set it always would make cargo build
# llama.cpp again for whoever runs cargo by hand.
find_libclang() {
    local dir
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        [ -f "$LIBCLANG_PATH" ] || holds_libclang "$LIBCLANG_PATH"
        return
    fi
    for dir in "$("${LLVM_CONFIG_PATH:-llvm-config}" --libdir 2>/dev/null)" \
        "$(xcode-select --print-path 2>/dev/null)/Toolchains/XcodeDefault.xctoolchain/usr/lib" \
        /Library/Developer/CommandLineTools/usr/lib /usr/local/opt/llvm*/lib \
        /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu* /usr/lib64 /usr/lib /usr/local/lib*; do
        if [ -n "$dir" ] && holds_libclang "$dir"; then return 0; fi
    done
    for dir in /opt/homebrew/opt/llvm*/lib /opt/local/libexec/llvm-*/lib \
        "$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null |
            awk '/libclang(-[0-9]+)?\.so/ { sub(/\/[^\/]*$/, "", $NF); dir = $NF } END { print dir }')"; do
        if [ -n "$dir" ] && holds_libclang "$dir"; then
            export LIBCLANG_PATH="$dir"
            return 0
        fi
    done
    return 1
}

# libclang without clang's own headers fails on the first `#include <stddef.h>`; graphics drivers
# bring just such a bare libclang along.
has_clang_headers() {
    command -v clang >/dev/null 2>&1 || [ "$(uname)" = Darwin ] || [ -n "${LIBCLANG_PATH:-}" ] ||
        any_exists /usr/lib/llvm-*/lib/clang/*/include/stddef.h \
            /usr/lib*/clang/*/include/stddef.h /usr/local/lib*/clang/*/include/stddef.h
}

has_tool() {
    local cxx=${CXX:-c++}
    case $1 in
        # macOS has a /usr/bin/c++ that only offers to install one.
        c++) command -v "${cxx%% *}" >/dev/null 2>&1 &&
            { [ "$(uname)" != Darwin ] || xcode-select --print-path >/dev/null 2>&1; } ;;
        libclang) find_libclang && has_clang_headers ;;
        pip) find_pip ;;
        chromium) find_chromium ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# Sets $pip and $python: two commands, to be split at spaces.
find_pip() {
    if python3 -m pip --version >/dev/null 2>&1; then
        pip="python3 -m pip" python=python3
    elif pip3 --version >/dev/null 2>&1 && python3 --version >/dev/null 2>&1; then
        pip=pip3 python=python3
    elif uv --version >/dev/null 2>&1; then
        # shellcheck disable=SC2034 # read by fetch-model.sh
        pip="uv tool run pip" python="uv run --no-project python"
    else
        return 1
    fi
}

# Sets $chromium: the browser that the report is looked over in.
find_chromium() {
    local name
    for name in ${AIRD_CHROMIUM:+"$AIRD_CHROMIUM"} chromium chromium-browser google-chrome \
        google-chrome-stable "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
        # shellcheck disable=SC2034 # read by test.sh
        chromium=$(command -v "$name" 2>/dev/null) && return 0
    done
    return 1
}

missing_of() {
    local tool
    for tool in "$@"; do
        has_tool "$tool" || printf '%s ' "$tool"
    done
}

# packages MANAGER TOOL...: what a package manager calls the tools; nothing for those it lacks.
packages() {
    local manager=$1 tool
    shift
    for tool in "$@"; do
        case $manager:$tool in
            *:cmake | *:chromium | dnf:make | apt:make | pacman:make) printf '%s ' "$tool" ;;
            apt:c++) printf 'g++ ' ;;
            apt:libclang) printf 'libclang-dev ' ;;
            apt:pip | dnf:pip) printf 'python3-pip ' ;;
            dnf:c++) printf 'gcc-c++ ' ;;
            dnf:libclang) printf 'clang-devel ' ;;
            pacman:c++) printf 'gcc ' ;;
            pacman:libclang) printf 'clang ' ;;
            pacman:pip) printf 'python-pip ' ;;
            brew:libclang) printf 'llvm ' ;;
            brew:pip) printf 'python ' ;;
        esac
    done
}

apt_install() {
    local sudo=""
    [ -z "${AIRD_NO_INSTALL:-}" ] && [ $# -gt 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || return 1
        sudo="sudo -n"
    fi
    say "installing with apt-get: $*"
    # A fresh machine often still holds apt's lock for its first updates.
    $sudo apt-get update -qq >&2 || return 1
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >&2
}

# advise MANAGER COMMAND TOOL...: one line of advice, if that manager has any of the tools.
advise() {
    local manager=$1 command=$2 names
    shift 2
    names=$(packages "$manager" "$@")
    [ -z "$names" ] || say "  $command ${names% }"
}

ensure_tools() {
    local missing tool
    missing=$(missing_of "$@")
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2046,SC2086 # lists of plain words
        apt_install $(packages apt $missing) || true
    fi
    # shellcheck disable=SC2086
    missing=$(missing_of $missing)
    if [ -z "$missing" ]; then
        # Once more outside $(...), so that what the searches found stays set.
        for tool in "$@"; do has_tool "$tool"; done
        return
    fi

    say "error: not found: ${missing% }"
    case ${LIBCLANG_PATH:+$missing} in
        *libclang*) say "  (LIBCLANG_PATH is $LIBCLANG_PATH, and libclang is looked for there only)" ;;
    esac
    say "hint: install what is missing, then run this again:"
    case $missing in *cargo*) say "  Rust, from https://rustup.rs" ;; esac
    # shellcheck disable=SC2086
    if [ "$(uname)" = Darwin ]; then
        case $missing in *c++* | *make\ *) say "  xcode-select --install" ;; esac
        advise brew "brew install" $missing
    else
        advise apt "Debian, Ubuntu:  sudo apt-get install" $missing
        advise dnf "Fedora:          sudo dnf install" $missing
        advise pacman "Arch:            sudo pacman -S" $missing
    fi
    return 1
}
