#!/usr/bin/env bash
# A real SLURM cluster on one machine, for tests and for learning.
#
#   scripts/local_slurm.sh start [DIR] [PORT]    prints the line that makes commands use it
#   scripts/local_slurm.sh status [DIR]
#   scripts/local_slurm.sh stop [DIR]            cancels its jobs, ends its processes, and waits
#
# slurmctld, two slurmd (node1 and node2, each with 8 pretended GPUs and 8 CPUs), slurmdbd on
# MariaDB, and munge: all of its own, in DIR (/tmp/local_slurm), listening from PORT on (the first
# free ones from 26817). No systemd is needed, so containers will do. Whoever started it may submit:
# root, and with sudo the user who called it. Several clusters can run beside one another.
#
# There is something to choose of each kind: partitions `main` (the default) and `urgent` (which
# preempts main's jobs), accounts `root` and `lab`, QoS `normal` and `long`, and the features v100
# (node1) and a100 (node2) for constraints.
set -euo pipefail

readonly NAME=${0##*/}
readonly PACKAGES="slurm-wlm slurmdbd munge mariadb-server"
readonly NEEDED="munged mariadbd mariadb mariadb-install-db slurmdbd slurmctld slurmd sacctmgr sinfo scancel"
export PATH=$PATH:/usr/sbin:/sbin

say() { echo "$NAME: $*" >&2; }
fail() {
  say "$@"
  exit 1
}

# until_done SECONDS COMMAND...: waits until the command succeeds; 1 if it does not.
until_done() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

# Pid files, in the order in which the daemons start, and the names of their processes.
readonly DAEMONS="munged mariadbd slurmdbd slurmctld slurmd-node1 slurmd-node2"

# The process of a daemon of this cluster, if it runs. Pids are used again: the name is compared.
pid_of() {
  local pid
  pid=$(cat "$DIR/run/$1.pid" 2>/dev/null) || return 1
  # A zombie has no command line.
  [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") == *"${1%-node*}"* ]] 2>/dev/null && echo "$pid"
}
gone() { ! pid_of "$1"; }
all_run() { for daemon in $DAEMONS; do pid_of "$daemon" >/dev/null || return 1; done; }
none_runs() { for daemon in $DAEMONS; do gone "$daemon" >/dev/null || return 1; done; }
nodes_idle_or_resumed() {
  [[ $(sinfo -h -p main -o %T) == idle ]] && return
  [[ $(sinfo -h -p main -o %T) != *@(down|drain)* ]] ||
    scontrol update NodeName=node1,node2 State=RESUME
  return 1
}

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
are_free() {
  for port in $1 $(($1 + 1)) $(($1 + 2)) $(($1 + 3)) $(($1 + 4)); do
    is_free "$port" || return 1
  done
}

# SLURM's own libraries, the rendezvous of MASTER_ADDR included, look node names up.
# Written through, not renamed over: in containers /etc/hosts is a mount.
readonly MARK="# local_slurm"
forget_names() {
  local rest
  rest=$(grep -vF "$MARK $DIR" /etc/hosts) || true
  [[ $rest == "$(cat /etc/hosts)" ]] || echo "$rest" >/etc/hosts
}
add_names() {
  for node in node1 node2; do
    if [[ $(getent hosts $node | cut -d' ' -f1) != 127.* || $(grep -cF "$MARK" /etc/hosts) != 0 ]]; then
      echo "127.0.0.1 $node $MARK $DIR" >>/etc/hosts
    fi
  done
}

configure() {
  local db="$DIR/slurmdbd.conf"
  (umask 077 && : >"$db")
  cat >"$db" <<END
AuthType=auth/munge
AuthInfo=socket=$DIR/run/munge.socket
DbdHost=localhost
CommunicationParameters=NoInAddrAny
DbdPort=$((PORT + 3))
SlurmUser=root
PidFile=$DIR/run/slurmdbd.pid
LogFile=$DIR/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 4))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
END
  # cred_expire: a job that was queued again waits for so many seconds (usually 120) and the next
  # round of the scheduler (30 s) before it starts.
  # KillWait: a cancelled job that does not end on SIGTERM is killed after that.
  cat >"$DIR/slurm.conf" <<END
ClusterName=local
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$DIR/run/munge.socket,cred_expire=20
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$((PORT + 3))
AccountingStoragePass=$DIR/run/munge.socket
AccountingStorageEnforce=qos
JobAcctGatherType=jobacct_gather/linux
JobCompType=jobcomp/none
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd-%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ReturnToService=2
KillWait=5
NodeName=node1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((PORT + 1)) CPUs=8 RealMemory=10000 Gres=gpu:8 Feature=v100 State=UNKNOWN
NodeName=node2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((PORT + 2)) CPUs=8 RealMemory=10000 Gres=gpu:8 Feature=a100 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
END
  # SLURM wants a file for each GPU; these are empty.
  touch "$DIR"/spool/gpu{0..7}
  echo "Name=gpu File=$DIR/spool/gpu[0-7]" >"$DIR/gres.conf"
}

# launch NAME COMMAND...: a program that detaches itself, its output in log/NAME.out.
launch() {
  local log="$DIR/log/$1.out"
  shift
  "$@" >>"$log" 2>&1 </dev/null || fail "${1##*/} did not start: $(tail -n 3 "$log")"
}

start() {
  local missing=()
  for tool in $NEEDED; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  ((${#missing[@]} == 0)) || fail "${missing[*]} not found. On Debian and Ubuntu: apt-get install $PACKAGES"
  ((EUID == 0)) || fail "start needs root (slurmd runs jobs as their users): sudo $0 start $DIR"
  ((${#DIR} <= 70)) || fail "$DIR: too long for the paths of sockets; use a shorter DIR."
  if all_run; then
    say "already running in $DIR"
    echo "export SLURM_CONF=$DIR/slurm.conf"
    return
  fi
  none_runs || stop
  if [[ -n $PORT ]]; then
    are_free "$PORT" || fail "ports $PORT to $((PORT + 4)) are not all free; give another PORT."
  else
    for ((PORT = 26817; PORT < 30000; PORT += 10)); do
      are_free $PORT && break
    done
  fi
  mkdir -p "$DIR"/{run,log,db,state,spool/node1,spool/node2}
  # Whatever the umask: other users submit jobs, too.
  chmod 755 "$DIR" "$DIR/run"
  chmod 700 "$DIR/db"
  configure
  trap 'say "start failed; logs are in $DIR/log"; stop' EXIT

  [[ -s $DIR/munge.key ]] || (umask 077 && head -c 128 /dev/urandom >"$DIR/munge.key")
  # --force: as root, and wherever DIR is.
  launch munged munged --force --key-file="$DIR/munge.key" --socket="$DIR/run/munge.socket" \
    --pid-file="$DIR/run/munged.pid" --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge.seed"

  local sql=(mariadb --no-defaults -uroot -S "$DIR/run/mysql.sock")
  [[ -d $DIR/db/mysql ]] || launch mariadb-install-db mariadb-install-db --no-defaults --user=root \
    --datadir="$DIR/db" --auth-root-authentication-method=normal --skip-test-db
  mariadbd --no-defaults --user=root --datadir="$DIR/db" --socket="$DIR/run/mysql.sock" \
    --port=$((PORT + 4)) --bind-address=127.0.0.1 --pid-file="$DIR/run/mariadbd.pid" \
    --innodb-buffer-pool-size=64M >>"$DIR/log/mariadbd.out" 2>&1 </dev/null &
  disown
  until_done 60 "${sql[@]}" -e 'select 1' || fail "mariadbd did not start: see $DIR/log/mariadbd.out"
  for host in 127.0.0.1 localhost; do
    "${sql[@]}" -e "create database if not exists slurm_acct_db;
      create user if not exists slurm@'$host' identified by 'slurm';
      grant all on slurm_acct_db.* to slurm@'$host';"
  done

  export SLURM_CONF="$DIR/slurm.conf"
  launch slurmdbd slurmdbd
  until_done 60 sacctmgr -n show cluster || fail "slurmdbd did not start: see $DIR/log/slurmdbd.log"
  # Not yet there at the first start. `sacctmgr add` fails for what is there.
  if [[ -z $(sacctmgr -n -P show cluster) ]]; then
    sacctmgr -Q -i add cluster local >/dev/null
    sacctmgr -Q -i add qos long >/dev/null
    sacctmgr -Q -i add account lab Description=lab Organization=lab >/dev/null
  fi
  for user in root ${SUDO_USER:-}; do
    sacctmgr -Q -i add user "$user" Account=root,lab DefaultAccount=root QOS=normal,long >/dev/null || true
  done
  add_names
  launch slurmctld slurmctld -f "$SLURM_CONF"
  for node in node1 node2; do
    launch "slurmd-$node" slurmd -N $node -f "$SLURM_CONF"
  done
  # What took a node down the last time is over.
  until_done 30 nodes_idle_or_resumed || fail "the nodes are not idle: see $DIR/log/slurmctld.log"
  trap - EXIT
  say "running in $DIR, ports $PORT to $((PORT + 4)); now:"
  echo "export SLURM_CONF=$DIR/slurm.conf"
}

no_jobs() { [[ -z $(squeue -h) ]]; }

stop() {
  if [[ ! -d $DIR/run ]]; then
    say "no cluster in $DIR"
    return
  fi
  export SLURM_CONF="$DIR/slurm.conf"
  if pid_of slurmctld >/dev/null && squeue -h >/dev/null 2>&1; then
    squeue -h -o %A | sort -u | xargs -r scancel || true
    until_done 20 no_jobs || say "killing jobs that did not end"
  fi
  # The other way round, so that each can hand its last news to the next.
  local daemon pid
  for daemon in $(tac -s ' ' <<<"$DAEMONS "); do
    pid=$(pid_of "$daemon") || continue
    kill "$pid" || true
    until_done 15 gone "$daemon" || kill -9 "$pid" || true
  done
  forget_names
  say "stopped"
}

status() {
  local daemon pid state=0
  for daemon in $DAEMONS; do
    if pid=$(pid_of "$daemon"); then
      echo "$daemon: runs as $pid"
    else
      echo "$daemon: does not run"
      state=1
    fi
  done
  ((state == 0)) || return $state
  export SLURM_CONF="$DIR/slurm.conf"
  sinfo
  squeue
  echo "export SLURM_CONF=$SLURM_CONF"
}

DIR=$(realpath -m "${2:-/tmp/local_slurm}")
PORT=${3:-}
case ${1:-} in
  start | stop | status) "$1" ;;
  *)
    sed -n '2,/^set /{s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
