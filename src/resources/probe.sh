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
part mounts
cat /proc/mounts
part df
# In blocks of 1024 bytes whatever the environment says, one line each.
if timeout -s KILL 5 true; then timeout -s KILL 5 df -P -k; else df -P -k; fi
part end
