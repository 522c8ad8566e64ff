# bash completion for aditd(8): options, files, what --explain may be asked.

_aditd() {
	local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local words=' '"${COMP_WORDS[*]:1:COMP_CWORD-1}"' '

	case $before in
	-E | -f | -h | login)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	-C) words='user= addr= host= laddr= lport= version= key=' ;;
	-o | -p | open | listen) words='' ;;
	tunnel) words='point-to-point ethernet' ;;
	*)
		case $words in
		*' --explain '*)
			words='-C -f -o --no-dns open listen tunnel login'
			;;
		*) words='-D -e -t -T -v -V -C -E -f -h -o -p --explain' ;;
		esac
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	[ "$before" != -C ] || compopt -o nospace 2>/dev/null
}
complete -F _aditd aditd
