#compdef sshpool
# Completion of sshpool for zsh: as _sshpool in a directory of $fpath, or source <(sshpool completions zsh)
_sshpool() {
    local -a answer described
    local kind word
    answer=("${(@f)$(command sshpool __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    kind=$answer[1]
    for word in "${(@)answer[2,-1]}"; do
        described+=("${${word%%$'\t'*}//:/\\:}:${word#*$'\t'}")
    done
    case $kind in
        files) compset -P '*='; _files ;;
        directories) compset -P '*='; _files -/ ;;
        words) (( $#described )) && _describe -V sshpool described ;;
    esac
}
if [[ ${funcstack[1]-} == _sshpool ]]; then
    _sshpool "$@"
elif (( $+functions[compdef] )); then
    compdef _sshpool sshpool
fi
