# shellcheck shell=bash
# What `serve`, `check` and `build-cuda` share. Sourced, never run.

# Tools that the scripts fetch for themselves; nothing is installed system-wide.
REPRISE_TOOLS=${REPRISE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/reprise/tools}
export TARGET_DIR=${CARGO_TARGET_DIR:-target}
export CARGO_TERM_PROGRESS_WHEN=${CARGO_TERM_PROGRESS_WHEN:-auto}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# step NAME COMMAND...: runs it under a heading and says how long it took. `step_seconds` keeps the table for the end.
step_seconds=()
step() {
    local name=$1 began=$SECONDS
    shift
    printf '\n==> %s\n' "$name"
    "$@"
    printf '    %s: %d s\n' "$name" $((SECONDS - began))
    step_seconds+=("$(printf '%6d s  %s' $((SECONDS - began)) "$name")")
}

print_steps() {
    printf '\n'
    printf '%s\n' "${step_seconds[@]}"
    printf '%6d s  total\n' "$SECONDS"
}

need_build_tools() {
    have cargo || die 'cargo was not found: install the Rust toolchain named in Cargo.toml (rust-version), see https://rustup.rs'
    have cc || die 'no C compiler was found (cc); on Debian: apt-get install gcc libc6-dev'
    have python3 || die 'python3 was not found: it fetches the models and the tools; on Debian: apt-get install python3 python3-pip'
    python3 -m pip --version >/dev/null 2>&1 || die 'python3 has no pip; on Debian: apt-get install python3-pip'
}

# python_env NAME REQUIREMENTS: a virtual environment that holds exactly the pinned requirements; prints its folder.
# Keyed by the hash of the file, so that a changed pin makes a new one. Needs neither ensurepip nor root.
python_env() {
    local key folder
    key=$(sha256sum "$2" | cut -c1-12)
    folder=$REPRISE_TOOLS/$1-$key
    if [ ! -e "$folder/.complete" ]; then
        rm -rf "$folder"
        mkdir -p "$REPRISE_TOOLS"
        python3 -m venv --without-pip "$folder" >&2
        python3 -m pip --disable-pip-version-check --python "$folder/bin/python" install --quiet --no-deps -r "$2" >&2
        touch "$folder/.complete"
    fi
    printf '%s\n' "$folder"
}

# node_env NAME FOLDER NODE: the packages that FOLDER's package-lock.json pins, fetched by the npm of the wheel that is unpacked
# in NODE; prints their folder.
node_env() {
    local key folder
    key=$(cat "$2/package.json" "$2/package-lock.json" | sha256sum | cut -c1-12)
    folder=$REPRISE_TOOLS/$1-$key
    if [ ! -e "$folder/.complete" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        cp "$2/package.json" "$2/package-lock.json" "$folder"
        # Not bin/npm: a wheel has a copy there of what should be a link, and it finds nothing.
        (cd "$folder" && "$3/bin/node" "$3/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund) >&2
        touch "$folder/.complete"
    fi
    printf '%s\n' "$folder"
}

# debian_tool PACKAGE PATH [WITH...]: the folder of an unpacked Debian package that holds PATH (nothing is installed or
# started), together with WITH and what any of them need that this machine lacks.
debian_tool() {
    local folder=$REPRISE_TOOLS/debian-$1 path=$2 scratch package
    if [ ! -x "$folder/$path" ]; then
        have apt-get || return 1
        set -- "$1" "${@:3}"
        scratch=$(mktemp -d)
        # A new machine may have no package lists yet; only root can fetch them.
        (cd "$scratch" && { debian_download "$@" 2>/dev/null || { apt-get -qq update && debian_download "$@"; }; }) >&2 || return 1
        mkdir -p "$folder"
        for package in "$scratch"/*.deb; do dpkg -x "$package" "$folder"; done
        rm -rf "$scratch"
    fi
    printf '%s\n' "$folder"
}

# One package comes alone; several come with what they need.
debian_download() {
    local names=("$1")
    if [ $# -gt 1 ]; then
        names=()
        while read -r _ name _; do names+=("$name"); done < <(apt-get -qq install --simulate --no-install-recommends "$@" | grep '^Inst ')
    fi
    [ ${#names[@]} -gt 0 ] && apt-get -qq download "${names[@]}"
}
