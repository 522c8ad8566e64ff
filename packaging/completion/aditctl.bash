# bash completion for aditctl(1): commands, and the ids of what there is now.

_aditctl_ids() { # COMMAND...: the ids in the first column of its table
	aditctl "$@" 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_aditctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} i command='' words=''
	local -a before=()

	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-s) ((i++)) ;;
		-*) [ -z "$command" ] || before+=("${COMP_WORDS[i]}") ;;
		*)
			if [ -z "$command" ]; then
				command=${COMP_WORDS[i]}
			else
				before+=("${COMP_WORDS[i]}")
			fi
			;;
		esac
	done
	if [ "${COMP_WORDS[COMP_CWORD - 1]}" = -s ]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
	fi
	case $command:${before[*]} in
	:) words='status sessions forwards tunnels show limits penalties metrics
		watch kill close drain reload log-level explain --json -s --help
		--version' ;;
	sessions:) words=--all ;;
	forwards: | tunnels:) words=$(_aditctl_ids sessions) ;;
	show:) words="$(_aditctl_ids sessions) $(_aditctl_ids forwards)
		$(_aditctl_ids tunnels)" ;;
	kill:) words="user key $(_aditctl_ids sessions --all)" ;;
	kill:user) words=$(aditctl sessions 2>/dev/null |
		awk 'NR > 1 { print $2 }' | sort -u) ;;
	kill:key) words=$(aditctl sessions 2>/dev/null |
		grep -o 'SHA256:[^ ]*' | sort -u) ;;
	close:) words="$(_aditctl_ids forwards) $(_aditctl_ids tunnels)" ;;
	penalties:) words=clear ;;
	penalties:clear) words=$(_aditctl_ids penalties) ;;
	drain:) words=--timeout ;;
	log-level:) words='QUIET FATAL ERROR INFO VERBOSE DEBUG1 DEBUG2
		DEBUG3' ;;
	watch:*) words='-i -n' ;;
	explain:*) words='-C --no-dns open listen tunnel login' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	# a colon parts words for readline: leave off what is there already
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$cur"
	fi
}
complete -F _aditctl aditctl
