//! What stands below each command's help: examples, and what they need to be understood.

pub(super) const EXAMPLES: &str = "\
Examples:
  whose                          every process on this host, with its owner
  whose 4761                     whose process is this?
  whose web                      a container, by name, id or beginning of an id
  whose 4761 web --json          the same for programs
  whose /var/lib/docker          any path of the host, back to its owners
  whose web:/etc/hosts           a file of a container, and where the host has it
  whose pod:prod/web-7d9         a Kubernetes pod; pod:NS/POD/CONTAINER one container of it
  whose layer:be23faa629bf       a layer of an engine's store, by name or digest
  whose volume:db_data           the containers that have a volume of an engine's
  whose ls                       containers of every runtime and user
  whose ps web -o +image         a container's processes, with one more column
  whose tree                     the same as a tree, below their owners
  ps aux | whose annotate        owners in the output of other tools
  perf top -p \"$(whose pids -d, web)\"
  whose --in-container 4761 && echo contained
  whose doctor                   what can't be read here, and what would fix it
  whose capture /tmp/sick        save the facts behind all answers
  whose --root /tmp/sick ps      answer from a saved or mounted tree
  whose -- ps                    a container that is called ps

A target of 1 to 7 digits is a PID; container:4761 is a container of that name.

Exit status: 0 answered, 1 no such process, container or path, 2 usage,
3 could not be read in full, 4 ambiguous, 5 with --in-container: a host process, 6 internal error.";

pub(super) const PS_EXAMPLES: &str = "\
Examples:
  whose ps                       PID USER S RSS ELAPSED OWNER COMMAND of every user process
  whose ps web                   only those of the container web
  whose ps -u www-data --sort -rss
  whose ps --containers-only -o pid,owner,image,comm
  whose ps --format csv -o pid,owner,rss > processes.csv";

pub(super) const TREE_EXAMPLES: &str = "\
Examples:
  whose tree                     every user process below its owner and its parent
  whose tree web                 the processes of the container web
  whose tree 4761                a process and all its descendants, whoever owns them
  whose tree --containers-only --sort -rss
  whose tree -o pid,cpu_time,comm web
  whose tree -q 4761             only the PIDs, parents before children
  whose tree --json              rows below each other in children

The outermost owners stand at the edge: the host, units, sessions, containers. Below an owner come
its processes, each below its parent if the owner is the same; then the owners nested in it. So the
first process of a container stands right below it, and not below the engine's shim. With --sort,
siblings are sorted, and an owner stands where the first of its processes would.

In JSON and NDJSON an owner is a row too, without process; depth counts the rows above. JSON nests 50
levels, and what is deeper stands beside the last one, with its depth and ppid. CSV has processes
only, in the order of the tree, with the usual columns after depth and chain.";

pub(super) const LS_EXAMPLES: &str = "\
Examples:
  whose ls                       running containers, paused and restarting ones too
  whose ls -a                    all of them; also sandboxes and applications
  whose ls --disk                who fills the disks: containers, images, build cache, orphans
  whose ls --disk web            what the container web alone has
  whose ls -q                    full ids, one a line
  whose ls web 4761              a container by name, and the one that a process is in
  whose ls -o +user,+pid,+project --sort -processes
  whose ls -o +rss,cpu_time,io_write,fds --sort -rss
  whose ls -a --json

alice@web is a container of alice's own engine, outer/inner one inside another. Build steps and other
jobs are no containers: whose ps shows their processes.

rss, threads, cpu_time, pcpu, io_read, io_write and fds are those of all the container's processes
together, nested containers' included; ? when that of one of them could not be read. Other columns
of a process are those of the container's first one.

--disk counts allocated bytes, as du does, an inode once. LAYER, LOG, VOLUMES and DELETED (removed, and
held open) are a container's alone; what several have has rows of its own: images, each layer once, and
volumes. Then there are unused-images, build-cache, unused-volume, unused-layers, what lacks its layer
or its metadata (missing, orphan), and the rest of each engine's directory. No link is followed and no
other file system entered; bind mounts are the host's and are not counted. Ctrl-C, and the end of
--timeout (an hour), tell what was counted by then; the exit status is 3.";

pub(super) const PATH_EXAMPLES: &str = "\
Examples:
  whose path web:/etc/nginx/nginx.conf     the file on the host that the container has there
  whose path 4761:/data/db                 the same of a process, from its own root
  whose path /var/lib/docker/overlay2/733b57e47063/diff/etc/hosts
                                           as containers call it: web:/etc/hosts
  diff \"$(whose path web:/etc/hosts)\" /etc/hosts

Links are followed as the container would. A path is printed when the kernel's file handle names that
very file; where the kernel gives none, one with the same content, which is said. Of a container that
does not run the engine's own tables say it, which is said too. A directory that an
overlay merges from several layers has no path on the host: they are named on stderr, topmost first.

Exit status: 0 printed, 1 no such file, or the host has none, 3 it could not be told.";

pub(super) const PIDS_EXAMPLES: &str = "\
Examples:
  whose pids web
  perf top -p \"$(whose pids -d, web)\"
  whose pids --direct web        without containers nested in it";

pub(super) const EXE_EXAMPLES: &str = "\
Examples:
  whose exe 4761
  whose exe web                  the binary of a container's first process
  whose exe --hash 4761          its SHA-256 and build id as well
  whose exe --json 4761          with how it is proven, its layer and its state

A path is only printed when it is proven: by the page of the file that the process maps, by the
mapped inode, or by the kernel's own file handle. Exit status 1: no file on the host is what runs.";

pub(super) const MAPS_EXAMPLES: &str = "\
Examples:
  whose maps 4761                as /proc/4761/maps, with paths on the host
  whose maps web                 of a container's first process
  whose maps -q 4761             only the paths, each once
  whose maps --json 4761         with layers, build ids and how each path is proven

A path is proven as that of whose exe is. Otherwise the name inside stands after a ?, or after a -
where the host has no such file: it was removed, or is memory only.";

pub(super) const ANNOTATE_EXAMPLES: &str = "\
Examples:
  ps aux | whose annotate
  iotop -b -o | whose annotate
  ss -tnp | whose annotate --with owner,image
  dmesg | whose annotate         also of containers that are gone, by their cgroup
  journalctl -o json | whose annotate
  whose annotate /var/log/syslog
  whose annotate -- top -b -n 1
  whose annotate --style prefix /var/log/syslog
  mytool | whose annotate --pid-column 2
  mytool | whose annotate --regex 'worker (?P<pid>[0-9]+) '

Tables get a column next to their PIDs, other lines « » at their end, JSON objects that have a pid a
member owner. All other bytes pass as they are, each line when it comes. What it knows it finds by
header or shape; a number is a PID only where one stands in that tool's output, or where you say so.

(gone): the process has ended, or its PID is another one's now; ID(removed): a container of which
nothing but the id is left. Of a log's line, and of a file, only who was there at its time is told.

With -- COMMAND the exit status is the command's; 125 when annotate itself fails, 126 when the command
can't be run, 127 when there is none, 128+n when signal n ended it.";

pub(super) const CAPTURE_EXAMPLES: &str = "\
Examples:
  whose capture /tmp/sick        the whole host, as far as this user may read it
  whose --root /tmp/sick web     and what it answers, here or on another machine
  whose capture /tmp/web web     only what answers about the container web
  tar -C /tmp -cz sick           one file of it

The directory is made, and only its owner may read it. It holds files of /proc,
of the cgroups and of the engines: names, arguments of processes and labels too.
Values of environment variables are taken out of the engines' files. What could
not be read is in .whose/manifest.json, which file each process ran in
.whose/facts.json.";

pub(super) const DOCTOR_EXAMPLES: &str = "\
Examples:
  whose doctor                   what an ordinary user can't see here
  sudo whose doctor              what even root can't
  whose doctor --json            the same for programs
  whose doctor --strict          exit with 3 when anything can't be read

It reads what the other commands read of all processes and containers, so it
takes as long as they do together.";
