#!/usr/bin/env bash
# slurm.sh FOLDER: a Slurm of two nodes, n1 and n2, with two processors each.
#
# Runs until it is ended, and takes its daemons with it. It must have mount, network and
# process namespaces of its own (unshare --mount --net --pid --fork --kill-child
# --mount-proc), so that nothing of the machine's own Slurm is touched. FOLDER takes its
# state and logs; FOLDER/ready appears when both nodes are idle.
set -euo pipefail
folder=$1
host=$(hostname -s)

mount --make-rprivate /
ip link set lo up
# With 127.0.0.1 alone glibc finds no configured address family, and slurmctld no host.
ip addr add 127.0.0.2/8 dev lo

mkdir -p "$folder"/{etc,munge,state,log,n1,n2} /etc/slurm /run/munge
mount --bind "$folder/etc" /etc/slurm
mount --bind "$folder/munge" /run/munge
chmod 755 "$folder" "$folder/munge"

cat >/etc/slurm/slurm.conf <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/%n.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny
SchedulerParameters=batch_sched_delay=0
# A node that has not answered for so many seconds is down, and its jobs have failed.
SlurmdTimeout=10
ReturnToService=1
# A lost job is left to Snakemake.
JobRequeue=0
KillWait=5
MailProg=/bin/true
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=2 RealMemory=32000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=2 RealMemory=32000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE
CONF

head --bytes 1024 /dev/urandom >"$folder/munge.key"
chmod 400 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --seed-file="$folder/munge.seed" \
	--pid-file="$folder/munged.pid" --log-file="$folder/log/munged.log"
slurmctld
slurmd -N n1
slurmd -N n2

for _ in {1..100}; do
	if [ "$(sinfo --noheader --Node --states idle | wc --lines)" = 2 ]; then
		touch "$folder/ready"
		sleep infinity
	fi
	sleep 0.2
done
echo "error: Slurm did not start, see $folder/log" >&2
exit 1
