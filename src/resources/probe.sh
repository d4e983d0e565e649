# What a machine has and uses, for src/resources/read.rs: plain POSIX sh and /proc. A line ":: NAME"
# begins each part; a part that cannot be had is empty. The disks come last: a network file system
# whose server is gone can keep df waiting, and everything else is said by then.
exec 2>/dev/null
LC_ALL=C
export LC_ALL
# The latter two change what nproc says.
unset POSIXLY_CORRECT OMP_NUM_THREADS OMP_THREAD_LIMIT
part() { printf ':: %s\n' "$1"; }
part hostname
cat /proc/sys/kernel/hostname || uname -n
part uptime
cat /proc/uptime
part loadavg
cat /proc/loadavg
part cpus
nproc || getconf _NPROCESSORS_ONLN || grep -c '^cpu[0-9]' /proc/stat
part cpu
grep '^cpu ' /proc/stat
sleep 0.2 || sleep 1
part cpu
grep '^cpu ' /proc/stat
part meminfo
cat /proc/meminfo
part cgroup
# What the control groups of this shell allow, from the innermost to the outermost. In a container
# the paths may be those outside of it, of which only the last directory is there.
group() {
    top=$1 at=$2
    shift 2
    while :; do
        if [ -r "$top$at/$1" ]; then
            printf 'group\n'
            for file; do
                while read -r line; do
                    case $file,$line in
                    memory.stat,inactive_file\ *) printf '%s\n' "$line" ;;
                    memory.stat,total_inactive_file\ *) printf 'inactive_file %s\n' "${line#* }" ;;
                    memory.stat,*) ;;
                    *) printf '%s %s\n' "$file" "$line" ;;
                    esac
                done <"$top$at/$file"
            done
        fi
        case $at in '' | /) break ;; esac
        at=${at%/*}
    done
}
while IFS=: read -r number controllers path; do
    root=/sys/fs/cgroup
    case ,$controllers, in
    ,,)
        [ -r "$root/cgroup.controllers" ] || root=$root/unified
        group "$root" "$path" cpu.max
        group "$root" "$path" memory.max memory.current memory.swap.max memory.stat
        ;;
    *,cpu,*) group "$root/cpu" "$path" cpu.cfs_quota_us cpu.cfs_period_us ;;
    *,memory,*)
        group "$root/memory" "$path" memory.limit_in_bytes memory.usage_in_bytes \
            memory.memsw.limit_in_bytes memory.stat
        ;;
    esac
done </proc/self/cgroup
part mounts
cat /proc/mounts
part df
# In blocks of 1024 bytes whatever the environment says, one line each. Where the first one hangs,
# so would the second.
if timeout -s KILL 5 true; then
    timeout -s KILL 5 df -P -k
    [ $? -ge 124 ] || { part inodes && timeout -s KILL 5 df -P -i; }
else
    df -P -k
    part inodes
    df -P -i
fi
part end
