/*
 * Makes processes that do nothing, in cgroups and namespaces as containers have them.
 *
 * usage: rig keep PARENT    (the PID of the program that starts it)
 *        rig clear LIST     (a file: a cgroup directory a line; after a `?` one that others may use)
 *
 * `keep` reads lines. These say how the next group is to be:
 *     comm NAME             the name of its processes
 *     cgroup FILE           the cgroup.procs file of a cgroup it is in
 *     root DIR              its root directory
 *     bind NAME FILE        FILE is mounted on /etc/NAME there
 * and these start it, and are answered by the PID of its first process, or "err ...":
 *     container N           N processes in namespaces of their own
 *     host N                N processes in the namespaces of this program
 *
 * Everything started dies with this program, and this one with its parent or its input.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CGROUPS = 64, BINDS = 8, ROOM = 8192 };

static struct group {
	char comm[16];
	char *cgroup[CGROUPS];
	int cgroups;
	char *root;
	char *bind[BINDS]; /* "NAME FILE" */
	int binds;
} group;

static pid_t *leader;
static int leaders;

static _Noreturn void idle(void)
{
	for (;;)
		pause();
}

/* Tells the keeper what failed and ends. */
static _Noreturn void fail(int report, const char *what)
{
	dprintf(report, "err %s: %s\n", what, strerror(errno));
	_exit(1);
}

/* What the keeper's parent reads or writes is none of a process's business. */
static void let_go(void)
{
	int null = open("/dev/null", O_RDWR);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

static void enter_root(int report)
{
	char path[ROOM];
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		fail(report, "making the mounts private");
	if (mount(group.root, group.root, NULL, MS_BIND, NULL) < 0)
		fail(report, "mounting the root");
	for (int i = 0; i < group.binds; i++) {
		char *file = strchr(group.bind[i], ' ');
		*file++ = 0;
		snprintf(path, sizeof path, "%s/etc/%s", group.root, group.bind[i]);
		if (mount(file, path, NULL, MS_BIND, NULL) < 0)
			fail(report, path);
	}
	snprintf(path, sizeof path, "%s/proc", group.root);
	if (mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		fail(report, "mounting proc");
	if (chdir(group.root) < 0)
		fail(report, "entering the root");
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) < 0)
			fail(report, "leaving the old root");
	} else if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) {
		/* The first root of a system can't be pivoted away. */
		fail(report, "changing the root");
	}
	if (chdir("/") < 0 || mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
		fail(report, "making the root read-only");
}

/* The first process of a group. */
static _Noreturn void lead(int go, int report, int contained, long count)
{
	char byte;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Only now may the keeper let it go: if that died before, there is an end of file. */
	if (write(report, "d", 1) != 1 || read(go, &byte, 1) != 1)
		_exit(1);
	close(go);
	setsid();
	signal(SIGCHLD, SIG_IGN);
	prctl(PR_SET_NAME, group.comm);
	if (contained)
		enter_root(report);
	pid_t self = getpid();
	for (long i = 1; i < count; i++) {
		pid_t child = fork();
		if (child < 0)
			fail(report, "fork");
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != self)
				_exit(1);
			close(report);
			let_go();
			idle();
		}
	}
	dprintf(report, "ok\n");
	close(report);
	let_go();
	idle();
}

static int join(pid_t pid)
{
	char text[16];
	int size = snprintf(text, sizeof text, "%d", (int)pid);
	for (int i = 0; i < group.cgroups; i++) {
		int fd = open(group.cgroup[i], O_WRONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : write(fd, text, (size_t)size);
		int error = errno;
		if (fd >= 0)
			close(fd);
		if (n != size) {
			printf("err %s: %s\n", group.cgroup[i], strerror(error));
			return -1;
		}
	}
	return 0;
}

static void forget(void)
{
	for (int i = 0; i < group.cgroups; i++)
		free(group.cgroup[i]);
	for (int i = 0; i < group.binds; i++)
		free(group.bind[i]);
	free(group.root);
	memset(&group, 0, sizeof group);
}

static void start(int contained, long count)
{
	int go[2], report[2];
	if (count < 1 || (contained && group.root == NULL) || pipe(go) < 0 || pipe(report) < 0) {
		printf("err group: bad, or no pipe\n");
		return;
	}
	int namespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC;
	/* Nothing may be waiting in the buffer: the child would have it too. */
	fflush(stdout);
	pid_t pid = (pid_t)syscall(SYS_clone, (contained ? namespaces : 0) | SIGCHLD, 0, 0, 0, 0);
	int error = errno;
	if (pid == 0) {
		close(go[1]);
		close(report[0]);
		lead(go[0], report[1], contained, count);
	}
	close(go[0]);
	close(report[1]);
	if (pid < 0) {
		printf("err clone: %s\n", strerror(error));
	} else {
		leader[leaders++] = pid;
		char line[ROOM] = "";
		/* In its cgroups before it has children: they inherit them. */
		if (join(pid) == 0) {
			FILE *from = NULL;
			if (read(report[0], line, 1) == 1 && write(go[1], "g", 1) == 1)
				from = fdopen(report[0], "r");
			if (from == NULL || fgets(line, sizeof line, from) == NULL)
				printf("err group: its first process ended\n");
			else if (strcmp(line, "ok\n") == 0)
				printf("%d\n", (int)pid);
			else
				fputs(line, stdout);
			if (from != NULL) {
				fclose(from);
				report[0] = -1;
			}
		}
	}
	close(go[1]);
	if (report[0] >= 0)
		close(report[0]);
}

static int take(char *line)
{
	char *rest = strchr(line, ' ');
	if (rest == NULL)
		return -1;
	*rest++ = 0;
	if (strcmp(line, "comm") == 0)
		snprintf(group.comm, sizeof group.comm, "%s", rest);
	else if (strcmp(line, "cgroup") == 0 && group.cgroups < CGROUPS)
		group.cgroup[group.cgroups++] = strdup(rest);
	else if (strcmp(line, "root") == 0 && group.root == NULL)
		group.root = strdup(rest);
	else if (strcmp(line, "bind") == 0 && group.binds < BINDS && strchr(rest, ' ') != NULL)
		group.bind[group.binds++] = strdup(rest);
	else if (strcmp(line, "container") == 0 || strcmp(line, "host") == 0) {
		leader = realloc(leader, ((size_t)leaders + 1) * sizeof *leader);
		if (leader == NULL)
			return -1;
		start(line[0] == 'c', strtol(rest, NULL, 10));
		fflush(stdout);
		forget();
	} else {
		return -1;
	}
	return 0;
}

static int keep(pid_t parent)
{
	char line[ROOM];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* What outlives its group's first process is waited for too. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (getppid() != parent)
		return 1;
	while (fgets(line, sizeof line, stdin) != NULL) {
		line[strcspn(line, "\n")] = 0;
		if (take(line) < 0) {
			printf("err line: %s\n", line);
			fflush(stdout);
		}
	}
	for (int i = 0; i < leaders; i++)
		kill(leader[i], SIGKILL);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	return 0;
}

static int clear(const char *list)
{
	FILE *from = fopen(list, "r");
	if (from == NULL)
		return errno == ENOENT ? 0 : 1;
	static char *path[1 << 20];
	size_t count = 0, left = 0, own = 0;
	char line[ROOM];
	while (count < sizeof path / sizeof *path && fgets(line, sizeof line, from) != NULL) {
		line[strcspn(line, "\n")] = 0;
		if ((path[count++] = strdup(line)) == NULL)
			return 1;
	}
	fclose(from);
	/* Killed processes take their time to leave, and an engine too; what others go on using stays. */
	for (int round = 0, shared = 0; round < 6000 && shared < 2000; round++) {
		left = own = 0;
		for (size_t i = 0; i < count; i++) {
			int others = path[i][0] == '?';
			if (rmdir(path[i] + others) < 0 && errno != ENOENT) {
				path[left++] = path[i];
				own += !others;
			}
		}
		count = left;
		if (left == 0)
			return 0;
		shared += own == 0;
		nanosleep(&(struct timespec){ .tv_nsec = 10 * 1000 * 1000 }, NULL);
	}
	for (size_t i = 0; i < left; i++)
		fprintf(stderr, "rig: %s is in use and stays\n", path[i] + (path[i][0] == '?'));
	return own > 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "keep") == 0)
		return keep((pid_t)strtol(argv[2], NULL, 10));
	if (argc == 3 && strcmp(argv[1], "clear") == 0)
		return clear(argv[2]);
	fprintf(stderr, "usage: rig keep PARENT | rig clear LIST\n");
	return 2;
}
