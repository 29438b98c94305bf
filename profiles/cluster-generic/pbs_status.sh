#!/bin/sh
# Prints whether job $1 of PBS is running (or waits), is a success or has failed.
qstat -x -f "$1" 2>/dev/null | awk '
	$1 == "job_state" { state = $3 }
	$1 == "Exit_status" { status = $3 }
	END {
		if (state != "" && state != "F" && state != "C") print "running"
		else print status == "0" ? "success" : "failed"
	}'
