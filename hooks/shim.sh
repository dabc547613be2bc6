#!/bin/sh
# gitwaves hook
# Written by `gitwaves hooks install`; `gitwaves hooks uninstall` removes it without a trace.
# It runs the hook that was here before, then gitwaves, if there is anything for it to do.

hook=@HOOK@
python=@PYTHON@
package=@PACKAGE@

[ -z "$GITWAVES_HOOK" ] || exit 0 # git as called by gitwaves

( # what leaves here goes on below, where others may have added something

# post-rewrite gets what was rewritten on standard input, and two are to read it.
rewritten=
[ "$hook" != post-rewrite ] || rewritten=$(cat)

# "$@": a command. Gives it the standard input that the hook got.
feed() {
	if [ "$hook" != post-rewrite ]; then
		"$@"
	elif [ -z "$rewritten" ]; then
		"$@" </dev/null
	else
		{ printf '%s\n' "$rewritten" 2>/dev/null; } | "$@"
	fi
}

before=${0%/*}/$hook.gitwaves-orig
# pre-commit calls us as the hook it replaced; a hook of its own that we replaced is then run by it.
if [ -n "$PRE_COMMIT_RUNNING_LEGACY" ] && grep -q 'https://pre-commit.com' "$before" 2>/dev/null; then
	before=
fi
if [ -n "$before" ] && [ -f "$before" ] && [ -x "$before" ]; then
	feed "$before" "$@"
	status=$?
	case $hook in
	post-*) ;; # the commit is made: nothing may fail it
	*) [ "$status" -eq 0 ] || exit "$status" ;;
	esac
fi

# Nothing to do unless a task is at work on this branch.
branch=$(git symbolic-ref -q HEAD 2>/dev/null) || exit 0
branch=${branch#refs/heads/}
while :; do
	case $branch in
	*/*) branch=${branch%%/*}%2F${branch#*/} ;;
	*) break ;;
	esac
done
common=$(git rev-parse --git-common-dir 2>/dev/null) || exit 0
work=$common/gitwaves/at-work/$branch
unfinished=$common/gitwaves/unfinished/$branch # gitwaves was killed: no commit may take a part of it
[ "$hook" = pre-commit ] && [ -f "$unfinished" ] || [ -f "$work" ] || exit 0

# Gone, or broken: the commit goes on. What hooks refuse is refused again by `gitwaves verify`.
say() {
	echo "gitwaves: $1; \`gitwaves doctor --fix\` mends it" >&2
}
for needed in "$python" "$package"; do
	[ ! -f "$needed" ] || continue
	case $hook in
	post-commit | post-merge) say "this hook looks for $needed, which is gone" ;;
	esac
	exit 0
done

case $hook in
commit-msg) # no trailer of ours: nothing to check
	grep -qiE '^(Task|Learned|Spec-gap):' "$1" 2>/dev/null || exit 0
	;;
pre-commit) # Git's own pathspecs can tell that nothing staged lies outside a plain boundary
	own=$(git rev-parse --git-dir 2>/dev/null) || exit 0
	if [ -s "$work.paths" ] && [ ! -e "$own/MERGE_HEAD" ] && [ ! -f "$unfinished" ]; then
		(
			set --
			while IFS= read -r spec; do
				set -- "$@" "$spec"
			done <"$work.paths"
			git diff --cached --quiet --no-ext-diff HEAD -- "$@" 2>/dev/null
		) && exit 0
	fi
	;;
post-commit | post-merge) # nothing was verified yet: no commit can be the verified one
	IFS= read -r task <"$work" || exit 0
	[ -d "$common/gitwaves/receipts/$task" ] || exit 0
	;;
esac

case $hook in
post-commit | post-merge)
	# In the middle of something that rewrites or picks commits: `sync` looks when it is over.
	own=$(git rev-parse --git-dir 2>/dev/null) || exit 0
	for state in rebase-merge rebase-apply sequencer CHERRY_PICK_HEAD REVERT_HEAD BISECT_LOG; do
		[ ! -e "$own/$state" ] || exit 0
	done
	# While post-merge runs, the merge that it tells of still has its MERGE_HEAD.
	[ "$hook" = post-merge ] || [ ! -e "$own/MERGE_HEAD" ] || exit 0
	;;
esac

feed "$python" -P -m gitwaves hook "$hook" "$@"
status=$?
case $hook in
post-*) exit 0 ;;
esac
# Only what gitwaves refuses, or an interrupt, stops a commit.
if [ "$status" -eq 0 ] || [ "$status" -ge 128 ]; then
	exit "$status"
elif [ "$status" -eq 1 ] && "$python" -P -c 'import gitwaves.cli' 2>/dev/null; then
	exit 1
fi
say "this hook failed (exit $status)"
exit 0
) || exit $?
# gitwaves: end. What is added below runs after it, and stays when gitwaves goes.
