# Shared by the scripts: installing what is missing. Sourced, not run. POSIX sh.

say() { printf '\n== %s\n' "$*"; }

is_root() { [ "$(id -u)" -eq 0 ]; }

have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

# Whether there is a container engine that works.
engine() { docker info >/dev/null 2>&1 || podman info >/dev/null 2>&1; }

# need PROGRAM PACKAGE: installs PACKAGE unless PROGRAM is there. Only root can; everybody else is told what to do.
need() {
    have "$1" || install_package "$2" "$1"
}

# install_package PACKAGE WHAT-FOR
install_package() {
    if ! is_root || ! have apt-get; then
        echo "missing: $2 (Debian: apt-get install $1)" >&2
        return 1
    fi
    echo "installing $1 for $2"
    if [ -z "${APT_UPDATED:-}" ]; then
        apt-get update -qq || return 1
        APT_UPDATED=yes
    fi
    # Debian would start a server as soon as it is installed: not on a machine that only wants the program.
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then made_policy=no; else
        made_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null </dev/null
    status=$?
    [ "$made_policy" = no ] || rm -f "$policy"
    return $status
}
