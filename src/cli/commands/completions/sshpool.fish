# Completion of sshpool for fish: sshpool completions fish | source
function __sshpool_complete
    command -q sshpool; or return
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    set -e words[1]
    set -l answer (command sshpool __complete $words "$last" 2>/dev/null)
    set -l kind $answer[1]
    set -e answer[1]
    switch "$kind"
        case files
            __fish_complete_path (string replace -r '^--[a-z-]*=' '' -- "$last")
        case directories
            __fish_complete_directories (string replace -r '^--[a-z-]*=' '' -- "$last")
        case words
            printf '%s\n' $answer
    end
end
complete -c sshpool -f -k -a '(__sshpool_complete)'
