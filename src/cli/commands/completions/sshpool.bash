# Completion of sshpool for bash: source <(sshpool completions bash)
_sshpool() {
    local line=${COMP_LINE:0:COMP_POINT} words=() last breaks= glued= kind= word
    read -ra words <<<"$line"
    case $line in
        *[[:space:]]) words+=('') ;;
    esac
    last=${words[${#words[@]} - 1]}
    # bash begins a word of its own behind these, where they are in COMP_WORDBREAKS; an @ is a part of that word.
    for word in : = @; do
        case $COMP_WORDBREAKS in
            *"$word"*) breaks+=$word ;;
        esac
    done
    if [ -n "$breaks" ]; then
        glued=${last%"${last##*[$breaks]}"}
        glued=${glued%@}
    fi
    COMPREPLY=()
    while IFS= read -r word; do
        if [ -z "$kind" ]; then
            kind=$word
        else
            word=${word%%$'\t'*}
            COMPREPLY+=("${word#"$glued"}")
        fi
    done < <(command sshpool __complete "${words[@]:1}" 2>/dev/null)
    case $kind in
        files)
            while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "${last#"$glued"}")
            compopt -o filenames 2>/dev/null
            ;;
        directories)
            while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -d -- "${last#"$glued"}")
            compopt -o filenames 2>/dev/null
            ;;
    esac
    return 0
}
complete -F _sshpool sshpool
