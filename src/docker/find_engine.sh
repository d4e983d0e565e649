# Where the engine listens that this account uses: one line for each thing that was found.
#   $1 the daemon, as DOCKER_HOST has it; or nothing
#   $2 what prints the daemon of the account's context; or nothing
#   $3 not empty where Podman is to be looked for first
socket() {
    [ -S "$1" ] || return 1
    if [ -r "$1" ] && [ -w "$1" ]; then echo "socket $1"; else echo "denied $1"; fi
}
daemon=${1:-${DOCKER_HOST-}}
if [ -z "$daemon" ] && [ -n "$2" ]; then
    daemon=$(eval "$2" 2>/dev/null)
fi
case $daemon in
unix://*) socket "${daemon#unix://}" || echo "missing ${daemon#unix://}" ;;
?*) echo "daemon $daemon" ;;
*)
    user=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
    docker="/var/run/docker.sock $user/docker.sock"
    podman="$user/podman/podman.sock /run/podman/podman.sock"
    case $3 in ?*) all="$podman $docker" ;; *) all="$docker $podman" ;; esac
    for path in $all; do socket "$path"; done
    ;;
esac
exit 0
