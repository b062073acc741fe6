#compdef runcounter
# Completes runcounter in zsh.
_runcounter() {
	local -a lines
	lines=("${(@f)$("${words[1]}" completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -z "${lines[1]}" ]]; then
		_files
		return
	fi
	lines=("${(@)lines//:/\\:}")
	lines=("${(@)lines/$'\t'/:}")
	_describe runcounter lines
}
compdef _runcounter runcounter
