/*
 * Runs a program and tells what it took.
 *
 * usage: meter NAMESPACE OUT PROGRAM [ARGUMENT...]
 *
 * The program runs in the mount namespace of the file NAMESPACE (`-`: in this one), its output
 * goes to the file OUT. Printed are its wall time (ns), user and system time (us), peak memory
 * (kB) and exit status (128 and more: the signal that ended it). Times and memory are those of the
 * program and of all that it waited for.
 *
 * The kernel counts the memory of the program that forks into the peak of what it starts: so this
 * is a program of its own, and small.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int failed(const char *what)
{
	fprintf(stderr, "meter: %s: %s\n", what, strerror(errno));
	return 125;
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: meter NAMESPACE OUT PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (in < 0 || out < 0)
		return failed(argv[2]);
	if (strcmp(argv[1], "-") != 0) {
		int space = open(argv[1], O_RDONLY | O_CLOEXEC);
		if (space < 0 || setns(space, CLONE_NEWNS) < 0)
			return failed(argv[1]);
	}
	struct timespec began, ended;
	clock_gettime(CLOCK_MONOTONIC, &began);
	volatile int error = 0;
	pid_t pid = vfork();
	if (pid == 0) {
		dup2(in, 0);
		dup2(out, 1);
		execvp(argv[3], argv + 3);
		error = errno;
		_exit(127);
	}
	if (pid < 0)
		return failed("vfork");
	int status;
	struct rusage used;
	while (wait4(pid, &status, 0, &used) < 0)
		if (errno != EINTR)
			return failed("wait4");
	clock_gettime(CLOCK_MONOTONIC, &ended);
	if (error != 0) {
		errno = error;
		return failed(argv[3]);
	}
	long long wall = (ended.tv_sec - began.tv_sec) * 1000000000LL + (ended.tv_nsec - began.tv_nsec);
	printf("%lld %lld %lld %ld %d\n", wall,
	       used.ru_utime.tv_sec * 1000000LL + used.ru_utime.tv_usec,
	       used.ru_stime.tv_sec * 1000000LL + used.ru_stime.tv_usec, used.ru_maxrss,
	       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}
