#!/bin/sh
# gitwaves hook
# Written by `gitwaves hooks install --server`; `gitwaves hooks uninstall --server` removes it
# without a trace. It runs the hook that was here before, then looks at what is pushed before any of
# it is taken. It runs no command of a card, and writes nothing.

hook=@HOOK@
python=@PYTHON@
package=@PACKAGE@

updates=$(cat)
before=${0%/*}/$hook.gitwaves-orig
if [ -f "$before" ] && [ -x "$before" ]; then
	printf '%s\n' "$updates" | "$before" "$@" || exit
fi

case $updates in
*' refs/heads/'*) ;;
*) exit 0 ;; # tags, notes: nothing of ours
esac
if [ ! -x "$python" ] || [ ! -f "$package" ]; then
	echo 'Error: gitwaves is gone from this server, so nothing can be taken unseen' >&2
	echo 'Hint: whoever keeps it runs `gitwaves hooks install --server` again' >&2
	exit 1
fi

# What is plainly fine is told in a few milliseconds, without most of gitwaves; the rest is looked at.
printf '%s\n' "$updates" | "$python" -I -S -c \
	'import sys; sys.path.insert(0, sys.argv[1]); from gitwaves.passing import main; main()' \
	"${package%/*/*}" 2>/dev/null && exit 0
printf '%s\n' "$updates" | "$python" -I -m gitwaves hook "$hook"
