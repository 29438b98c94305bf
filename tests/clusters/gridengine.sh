#!/usr/bin/env bash
# A Grid Engine of this machine alone, for tests: called as qsub, qstat, qacct or qdel,
# it does what they do with a job in the background. GRIDENGINE names its folder.
set -euo pipefail

submit() {
	local script=${*: -1} job
	job=$(($(find "$GRIDENGINE" -name '*.call' | wc --lines) + 1))
	echo "$*" >"$GRIDENGINE/$job.call"
	cp "$script" "$GRIDENGINE/$job.script"
	touch "$GRIDENGINE/$job.running"
	setsid bash -c '
		sh "$2" >"$1.log" 2>&1
		echo "exit_status $?" >"$1.account"
		rm "$1.running"
	' job "$GRIDENGINE/$job" "$script" >/dev/null 2>&1 &
	echo $! >"$GRIDENGINE/$job.group"
	echo "$job"
}

case ${0##*/} in
qsub) submit "$@" ;;
qstat) test -e "$GRIDENGINE/$2.running" ;;
qacct) echo "failed 0" && cat "$GRIDENGINE/$2.account" ;;
qdel)
	for job in "$@"; do
		kill -KILL -- "-$(cat "$GRIDENGINE/$job.group")"
		echo "exit_status 137" >"$GRIDENGINE/$job.account"
		rm -f "$GRIDENGINE/$job.running"
	done
	;;
esac
