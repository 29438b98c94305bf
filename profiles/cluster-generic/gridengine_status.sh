#!/bin/sh
# Prints whether job $1 of Grid Engine is running (or waits), is a success or has failed.
# A job leaves qstat at its end and appears in qacct some seconds later.
if qstat -j "$1" >/dev/null 2>&1; then
	echo running
	exit
fi
for _ in 1 2 3 4 5 6; do
	if account=$(qacct -j "$1" 2>/dev/null); then
		echo "$account" | awk '
			$1 == "failed" || $1 == "exit_status" { wrong += $2 != 0 }
			END { print wrong ? "failed" : "success" }'
		exit
	fi
	sleep 5
done
echo failed
