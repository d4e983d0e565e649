# Makes the directory $p of the archive on stdin, all of it or nothing. Where there is one already,
# each file of the archive takes its place in it.
#
# p  the target, which begins with / or ./        n  its name where p is a directory, or nothing
# r  what the temporary name ends with            m  the mode of a new directory, as chmod takes it
# k  the name of the last file of the archive     x  modes and times are exactly the archive's
# y  the bytes are on the disk before the names are
LC_ALL=C; export LC_ALL
fail() { printf 'sshpool: %s\n' "$1" >&2; exit 1; }
if [ -d "$p" ] && [ "$n" ]; then p=${p%/}/$n; fi
case $p in *[!/]*/) p=${p%/} ;; esac
if [ -e "$p" ] && [ ! -d "$p" ]; then fail 'Not a directory'; fi
# A link stays, and leads to the directory with the new files. Its name may end with a line break.
if [ -h "$p" ]; then
  q=$(readlink -f "$p" && echo x) || fail 'its link leads nowhere'
  p=${q%??}
fi
case $p in
  /*) ;;
  *) q=$(pwd && echo x) || exit 1; p=${q%??}/${p#./} ;;
esac
if [ -d "$p" ]; then t=$p/.sshpool_$r; else t=${p%/*}/.sshpool_$r; fi
if [ ! -d "${t%/*}/" ]; then
  if [ -e "${t%/*}" ]; then fail 'Not a directory'; else fail 'No such file or directory'; fi
fi
# A signal to the group that comes meanwhile would end rm before it has done anything.
clean() { trap '' HUP INT TERM PIPE; chmod -R u+rwx "$t" 2>/dev/null; rm -rf "$t"; }
trap clean EXIT
trap 'clean; exit 1' HUP INT TERM PIPE
(umask 077; mkdir "$t") || exit 1
if [ "$x" ]; then set -- -p; else
  # What root does by default has the modes of the archive, whatever the umask is.
  set -- -m
  if [ "$(id -u)" = 0 ]; then set -- -m --no-same-permissions; fi
fi
tar -x -o "$@" -f - -C "$t" || exit 1
[ -f "$t/$k" ] || fail 'the copy broke off'
rm -f "$t/$k" || exit 1
# One by one takes a hundred times as long for a thousand files.
if [ "$y" ]; then sync -f "$t" 2>/dev/null || find "$t" -type f -exec sync {} + || exit 1; fi
if [ -d "$p" ]; then
  cd "$t" || exit 1
  # A directory that is not there is moved whole. Of others the files are, one after another.
  find . -type d \( -exec sh -c '[ ! -e "$1/$2" ] && mv "$2" "$1/$2"' sh "$p" {} \; -prune -o \
    -exec sh -c '
      to=$1/$2; from=$2; set --
      move() { if [ $# -gt 0 ]; then mv -f "$@" "$to/"; fi; }
      if [ ! -d "$to" ]; then
        if [ -e "$to" ]; then printf "sshpool: %s: Not a directory\n" "$to" >&2; fi
        exit 1
      fi
      for file in "$from"/* "$from"/.[!.]* "$from"/..?*; do
        if [ -d "$file" ] && [ ! -h "$file" ]; then continue; fi
        if [ ! -e "$file" ] && [ ! -h "$file" ]; then continue; fi
        set -- "$@" "$file"
        if [ $# -ge 100 ]; then move "$@" || exit 1; set --; fi
      done
      move "$@"
    ' sh "$p" {} \; \)
  cd / || exit 1
  # What could not be moved has told why.
  if [ "$(find "$t" ! -type d | head -n 1)" ]; then exit 1; fi
else
  chmod "$m" "$t" || exit 1
  mv "$t" "$p" || exit 1
fi
printf 'sshpool_file\n'
