# Sourced by scripts/lrfdse and scripts/test: makes .venv, installs the package, finds the system tools.
# POSIX sh. Everything it says goes to stderr, because stdout belongs to the tool that runs afterwards.
# Before sourcing, `top` must hold the checkout's folder; everything here expects to run inside it.
# shellcheck shell=sh
: "${top:?}"

say() { printf 'lrfdse set-up: %s\n' "$*" >&2; }

stop() {
    say "$@"
    exit 4
}

# Run a command with its output in the log file $1; repeat the end of the log on stderr when it fails.
logged() {
    log=$1
    shift
    if "$@" >"$log" 2>&1; then return 0; fi
    grep -E '^(ERROR|E:|error)' "$log" | tail -n 3 >&2
    return 1
}

# --- Python -----------------------------------------------------------------------------------------------------------

new_enough() { "$1" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
can_make_venv() { "$1" -I -c 'import ensurepip, venv' 2>/dev/null; }

# Set `python` to an interpreter of 3.11 or newer that can make virtual environments.
find_python() {
    python=
    bare=
    for name in ${LRFDSE_PYTHON:-python3.13 python3.12 python3.11 python3}; do
        found=$(command -v "$name") || continue
        new_enough "$found" || continue
        if can_make_venv "$found"; then
            python=$found
            return 0
        fi
        bare=${bare:-$found}
    done
    if [ -z "$bare" ]; then
        stop "Python 3.11 or newer is needed, and none was found among: ${LRFDSE_PYTHON:-python3.13 python3.12 python3.11 python3}." \
            "Install it (Debian 12 or newer: apt-get install python3 python3-venv), or set LRFDSE_PYTHON to its path."
    fi
    package=$("$bare" -I -S -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if command -v apt-get >/dev/null; then
        install_packages "$bare cannot make virtual environments" "$package"
        can_make_venv "$bare" && python=$bare && return 0
    fi
    stop "$bare lacks the modules venv and ensurepip (Debian and Ubuntu: apt-get install $package)"
}

# What an installation depends on: another interpreter, another place or other requirements make it stale.
installation_key() {
    printf '%s|%s|%s\n' "$(.venv/bin/python -I -S -c 'import sys; print(sys.version.split()[0])' 2>/dev/null)" \
        "$(cksum <pyproject.toml)" "$top"
}

installed() { [ -x .venv/bin/python ] && [ "$(cat ".venv/installed$1" 2>/dev/null)" = "$(installation_key)" ]; }

# Install the package into .venv with the extras $1 ("" or "dev,bench"), unless that has been done.
install_package() {
    suffix=${1:+-$1}
    installed "$suffix" && return 0
    if command -v flock >/dev/null; then
        exec 9<pyproject.toml
        if ! flock -n 9; then
            say "another set-up of this checkout is running; waiting for it"
            flock 9
        fi
        if installed "$suffix"; then
            exec 9<&-
            return 0
        fi
    fi
    # The stamp's last field is the place: scripts in an environment that was moved name interpreters that are gone.
    if ! new_enough .venv/bin/python || ! .venv/bin/python -I -m pip --version >/dev/null 2>&1 ||
        { [ -f .venv/installed ] && [ "$(cut -d'|' -f3 .venv/installed)" != "$top" ]; }; then
        find_python
        say "making .venv with $python"
        "$python" -I -m venv --clear .venv >&2 || stop "$python -m venv .venv failed"
    fi
    say "installing lrfdse and the Python packages that it needs into .venv (once, a few minutes; log in .venv/pip.log)"
    logged .venv/pip.log .venv/bin/python -m pip install --disable-pip-version-check --editable ".${1:+[$1]}" ||
        stop "pip could not install the packages (is the network there?); the whole log is in $top/.venv/pip.log." \
            "The same command again goes on from here."
    installation_key >.venv/installed.new
    cp .venv/installed.new ".venv/installed$suffix"
    mv .venv/installed.new .venv/installed
    if command -v flock >/dev/null; then exec 9<&-; fi
}

# --- System tools -----------------------------------------------------------------------------------------------------

# Whether an LLVM program is there in version 22 or newer, under Debian's name or its own: 22 is the first LLVM with the
# scheduling models that modelled latency uses. lrfdse.meters.meter looks for the same names.
have_llvm() {
    for suffix in -22 -23 -24 -25 -26 -27 -28 -29; do
        if command -v "$1$suffix" >/dev/null; then return 0; fi
    done
    command -v "$1" >/dev/null && "$1" --version 2>/dev/null | grep -qE 'LLVM version (2[2-9]|[3-9][0-9])'
}

# Whether a PostgreSQL server is there: Debian keeps it out of PATH.
have_postgresql() {
    command -v initdb >/dev/null && return 0
    for folder in /usr/lib/postgresql/*/bin; do
        if [ -x "$folder/initdb" ]; then return 0; fi
    done
    return 1
}

# Print the Debian packages of the tools that are absent.
missing_packages() {
    if ! have_llvm llvm-mc || ! have_llvm llvm-mca; then echo llvm-22; fi
    for name in qemu-riscv64 qemu-aarch64 qemu-arm; do
        command -v "$name" >/dev/null || { echo qemu-user && break; }
    done
}

# Set `as_root` to the prefix that makes a command run as root without a question; fail when there is none.
may_install() {
    as_root=
    [ "${LRFDSE_APT:-yes}" != no ] && command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] && return 0
    as_root='sudo -n'
    command -v sudo >/dev/null && sudo -n true 2>/dev/null
}

# Install the Debian packages $2... because of $1, or print the command and stop with exit 4.
install_packages() {
    reason=$1
    shift
    command="apt-get update && apt-get install -y --no-install-recommends $*"
    if ! may_install; then
        if command -v apt-get >/dev/null; then
            stop "$reason. As root, run: $command"
        fi
        stop "$reason. The Debian packages are $*; install what your system calls them, and run this again."
    fi
    say "$reason; installing with apt-get: $*"
    log=$(mktemp)
    # shellcheck disable=SC2086 # as_root is empty or two words
    if ! logged "$log" $as_root apt-get -q -o DPkg::Lock::Timeout=300 update; then
        say "apt-get update failed (is the network there?); trying the package lists as they are"
    fi
    for name; do
        if [ -z "$(apt-cache madison "$name" 2>/dev/null)" ]; then
            rm -f "$log"
            stop "$reason, and this system's package lists have no $name. It is in Debian 12 with its security updates" \
                "(bookworm-security); elsewhere add a source that has it (for llvm-22: the LLVM project's apt repository)," \
                "then run: $command"
        fi
    done
    # shellcheck disable=SC2086
    if ! logged "$log" $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
        install -y --no-install-recommends "$@"; then
        stop "apt-get could not install $* (log: $log). As root, run: $command"
    fi
    rm -f "$log"
}

# Install the tools that modelled latency needs, or stop with exit 4.
install_tools() {
    packages=$(missing_packages)
    # shellcheck disable=SC2086 # one word a package
    [ -z "$packages" ] || install_packages "QEMU user mode and LLVM 22 are needed and not all there" $packages
}
