# Puts what comes on stdin under the name $p, all of it or nothing.
#
# p  the target, which begins with / or ./        n  its name where p is a directory, or nothing
# r  what the temporary name ends with            m  the mode: octal digits, or a change as chmod
# x  the mode holds for a file that is there      l  the length, where it is known
# k  what ends the input: a word, "sum" for the SHA-256 of all before it, or nothing
# u  the time of the file, as touch -t takes it   y  the bytes are on the disk before the name is
LC_ALL=C; export LC_ALL
fail() { printf 'sshpool: %s\n' "$1" >&2; exit 1; }
if [ -d "$p" ]; then
  if [ "$n" ]; then p=${p%/}/$n; fi
  if [ -d "$p" ]; then fail 'Is a directory'; fi
fi
case $p in */) if [ -e "${p%/}" ]; then fail 'Not a directory'; else fail 'No such file or directory'; fi ;; esac
# A link stays, and leads to the new contents. Its name may end with a line break.
if [ -h "$p" ]; then
  q=$(readlink -f "$p" && echo x) || fail 'its link leads nowhere'
  p=${q%??}
fi
if [ -e "$p" ] && [ ! -f "$p" ]; then
  if [ "$k" ]; then fail 'not a regular file: it takes only what has a known length, and no digest'; fi
  cat >"$p" || exit 1
  printf 'sshpool_file\n'
  exit
fi
# The shell's own words for both are the same.
if [ ! -d "${p%/*}/" ]; then
  if [ -e "${p%/*}" ]; then fail 'Not a directory'; else fail 'No such file or directory'; fi
fi
t=${p%/*}/.sshpool_$r
# A signal to the group that comes meanwhile would end rm before it has done anything.
clean() { trap '' HUP INT TERM PIPE; rm -f "$t"; }
trap clean EXIT
trap 'clean; exit 1' HUP INT TERM PIPE
# Before there are contents in it: they are never open to more people than at the end.
access() {
  if [ -z "$x" ] && [ -f "$p" ]; then
    { stat -c '%u:%g %a' "$p" 2>/dev/null || stat -f '%u:%g %Lp' "$p"; } | {
      read -r o a || return 1
      case $a in ????) a=${a#?} ;; esac
      chown "$o" "$t" 2>/dev/null
      chmod "$a" "$t"
    }
  else
    chmod "$m" "$t"
  fi
}
{ access && cat; } >"$t" || exit 1
s=$(wc -c <"$t") && s=$((s)) || exit 1
sum() {
  if command -v sha256sum >/dev/null; then sha256sum
  elif command -v shasum >/dev/null; then shasum -a 256
  elif command -v sha256 >/dev/null; then sha256
  elif command -v openssl >/dev/null; then openssl dgst -sha256 -r
  else fail 'no program for SHA-256: none of sha256sum, shasum, sha256, openssl'; fi
}
if [ "$k" ]; then
  e=$(tail -c 64 "$t") && s=$((s - 64)) || exit 1
  if [ "$s" -lt 0 ]; then fail 'the copy broke off'; fi
  if [ "$k" != sum ] && [ "$e" != "$k" ]; then fail 'the copy broke off'; fi
  dd if=/dev/null of="$t" bs=1 seek="$s" 2>/dev/null || exit 1
fi
if [ "$l" ] && [ "$s" -ne "$l" ]; then fail 'the copy broke off'; fi
if [ "$k" = sum ]; then
  f=$(sum <"$t") || exit 1
  if [ "${f%% *}" != "$e" ]; then fail 'the copy broke off or was changed on its way: other SHA-256'; fi
fi
# Writing has taken away what makes it run as somebody else.
case $m in [1-7]*) chmod "$m" "$t" || exit 1 ;; esac
if [ "$u" ]; then TZ=UTC0 touch -t "$u" "$t" || exit 1; fi
if [ "$y" ]; then sync "$t" || exit 1; fi
mv -f "$t" "$p" || exit 1
trap - EXIT
printf 'sshpool_file\n'
