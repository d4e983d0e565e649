# Shared by the scripts: installing what is missing, and what the test servers run on. Sourced, not
# run, in the directory of the project. POSIX sh.

say() { printf '\n== %s\n' "$*"; }

is_root() { [ "$(id -u)" -eq 0 ]; }

have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

# Whether this container engine (or one of them) answers. What else it can do
# is tried by tests/it/lab/sshd/build.
engine() {
    for engine in ${1:-docker podman}; do
        if have "$engine" && bounded 10 "$engine" info >/dev/null 2>&1; then return 0; fi
    done
    return 1
}

# bounded SECONDS PROGRAM...: with a deadline, where there is timeout(1).
bounded() { if have timeout; then timeout -k 2 "$@"; else shift && "$@"; fi; }

# Whether an engine can build and run the image of the test server; $server says which one, or else
# why there is none. The script that asks has a directory $work.
container_server() {
    # The base of the image is made from Debian's packages where no image can be pulled.
    if is_root && engine && ! bounded 10 docker image inspect debian:bookworm-slim >/dev/null 2>&1; then
        need mmdebstrap mmdebstrap || true
    fi
    server=$({ sh tests/it/lab/sshd/build 2>&1 >&3 </dev/null | tee "$work/engines" >&2; } 3>&1)
    [ -z "$server" ] || return 0
    server=$(tail -n 1 "$work/engines")
    return 1
}

# process_server WHY: an sshd of this machine, for this script and all that it starts. Only where
# nobody wants anything else.
process_server() {
    case ${SSHPOOL_TEST_SERVER:-},${SSHPOOL_TEST_RELEASE:-} in
    container,*)
        echo "no container as SSHPOOL_TEST_SERVER demands: install docker or podman, or set SSHPOOL_TEST_SERVER=process ($1)" >&2
        return 1
        ;;
    [!,p]*)
        echo "SSHPOOL_TEST_SERVER is \`$SSHPOOL_TEST_SERVER\`; it can be \`container\` or \`process\`" >&2
        return 1
        ;;
    *,?*)
        echo "SSHPOOL_TEST_RELEASE is for containers, and there is none ($1)" >&2
        return 1
        ;;
    esac
    need sshd openssh-server && need ps procps || return
    echo "the test server is a private sshd process ($1)"
    SSHPOOL_TEST_SERVER=process
    export SSHPOOL_TEST_SERVER
}

# test_server: what the test servers are on this machine as it is.
test_server() {
    if [ "${SSHPOOL_TEST_SERVER:-}" = process ]; then
        process_server "SSHPOOL_TEST_SERVER is process"
    elif container_server; then
        echo "the test server is a container: $server"
    else
        process_server "$server"
    fi
}

# need PROGRAM PACKAGE: installs PACKAGE unless PROGRAM is there. Only root can; everybody else is
# told what to do.
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
    # Debian would start a server as soon as it is installed: not on a machine that only wants the
    # program.
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
