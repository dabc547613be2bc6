#!/bin/sh
# gitwaves hook
# Written by `gitwaves hooks install`; `gitwaves hooks uninstall` removes it without a trace.
# It runs the hook that was here before, then gitwaves, if there is anything for it to do.

hook=@HOOK@
python=@PYTHON@
package=@PACKAGE@

[ -z "$GITWAVES_HOOK" ] || exit 0 # git as called by gitwaves

# Most commits are none of our business, so that is found out without starting a process.

# The Git directory of this worktree, the one that all worktrees share, and the branch.
# Returns 1 where there is no branch.
look() {
	own=${GIT_DIR:-.git}
	head=
	if [ -z "$GIT_COMMON_DIR" ] && [ -f "$own/HEAD" ] && [ ! -L "$own/HEAD" ]; then
		IFS= read -r head <"$own/HEAD"
	fi
	case $head in
	'' | *'/.invalid') # HEAD is no file that says it: Git is asked
		head="ref: $(git symbolic-ref -q HEAD 2>/dev/null)"
		own=$(git rev-parse --git-dir 2>/dev/null) && common=$(git rev-parse --git-common-dir 2>/dev/null) || return 1
		;;
	*)
		common=$own
		[ ! -f "$own/commondir" ] || IFS= read -r common <"$own/commondir"
		case $common in
		"$own" | /*) ;;
		*) common=$own/$common ;;
		esac
		;;
	esac
	case $head in
	'ref: refs/heads/'*) branch=${head#ref: refs/heads/} ;;
	*) return 1 ;;
	esac
}

# Whether Git's own pathspecs can tell that nothing staged lies outside a plain boundary.
inside() {
	[ -s "$work.paths" ] && [ ! -e "$own/MERGE_HEAD" ] && [ ! -f "$unfinished" ] || return 1
	(
		set --
		while IFS= read -r spec; do
			set -- "$@" "$spec"
		done <"$work.paths"
		unset GIT_LITERAL_PATHSPECS GIT_GLOB_PATHSPECS GIT_NOGLOB_PATHSPECS GIT_ICASE_PATHSPECS
		exec git diff --cached --quiet --no-ext-diff --ignore-submodules=none HEAD -- "$@" 2>/dev/null
	)
}

# "$1": the file of a commit message. Whether it may hold a trailer of ours.
ours() {
	lines=0
	while IFS= read -r line || [ -n "$line" ]; do
		case $line in
		[Tt][Aa][Ss][Kk]:* | [Ll][Ee][Aa][Rr][Nn][Ee][Dd]:* | [Ss][Pp][Ee][Cc]-[Gg][Aa][Pp]:*) return 0 ;;
		esac
		lines=$((lines + 1))
		if [ "$lines" -eq 100 ]; then # a shell reads slowly: a long one is left to grep
			grep -qiE '^(Task|Learned|Spec-gap):' "$1" 2>/dev/null
			return
		fi
	done <"$1"
	return 1
}

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

# Gone, or broken: the commit goes on. What hooks refuse is refused again by `gitwaves verify`.
say() {
	echo "gitwaves: $1; \`gitwaves doctor --fix\` mends it" >&2
}

# The hook. What leaves it goes on below, where others may have added something.
run() {
	# post-rewrite gets what was rewritten on standard input, and two are to read it.
	rewritten=
	[ "$hook" != post-rewrite ] || rewritten=$(cat)

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
		*) [ "$status" -eq 0 ] || return "$status" ;;
		esac
	fi

	# Nothing to do unless a task is at work on this branch.
	look || return 0
	while :; do
		case $branch in
		*/*) branch=${branch%%/*}%2F${branch#*/} ;;
		*) break ;;
		esac
	done
	work=$common/gitwaves/at-work/$branch
	unfinished=$common/gitwaves/unfinished/$branch # gitwaves was killed: no commit may take a part of it
	[ "$hook" = commit-msg ] && [ -f "$unfinished" ] || [ -f "$work" ] || return 0

	for needed in "$python" "$package"; do
		[ ! -f "$needed" ] || continue
		case $hook in
		post-commit | post-merge) say "this hook looks for $needed, which is gone" ;;
		esac
		return 0
	done

	case $hook in
	commit-msg) # Nothing to refuse: neither a trailer of ours, nor a path outside. A merge is looked at.
		ours "$1" || ! inside || return 0
		;;
	post-commit | post-merge)
		# Nothing was verified yet: no commit can be the verified one.
		IFS= read -r task <"$work" || return 0
		[ -d "$common/gitwaves/receipts/$task" ] || return 0
		# In the middle of something that rewrites or picks commits: `sync` looks when it is over.
		for state in rebase-merge rebase-apply sequencer CHERRY_PICK_HEAD REVERT_HEAD BISECT_LOG; do
			[ ! -e "$own/$state" ] || return 0
		done
		# While post-merge runs, the merge that it tells of still has its MERGE_HEAD.
		[ "$hook" = post-merge ] || [ ! -e "$own/MERGE_HEAD" ] || return 0
		;;
	esac

	feed "$python" -P "$package" hook "$hook" "$@"
	status=$?
	case $hook in
	post-*) return 0 ;;
	esac
	# Only what gitwaves refuses, or an interrupt, stops a commit.
	if [ "$status" -eq 0 ] || [ "$status" -ge 128 ]; then
		return "$status"
	elif [ "$status" -eq 1 ] && "$python" -P -c 'import gitwaves.cli' 2>/dev/null; then
		return 1
	fi
	say "this hook failed (exit $status)"
	return 0
}
run "$@" || exit $?
# gitwaves: end. What is added below runs after it, and stays when gitwaves goes.
