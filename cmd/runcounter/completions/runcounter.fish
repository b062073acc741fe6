# Completes runcounter in fish.
function __runcounter_words
    set -l before (commandline -opc)
    $before[1] completion words -- $before[2..-1] (commandline -ct) 2>/dev/null
end
complete -c runcounter -a '(__runcounter_words)'
