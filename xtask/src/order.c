/* Which functions a run of a program enters: ORDER FUNCTIONS PROGRAM ARGUMENT... puts a breakpoint at each address in
 * the file FUNCTIONS, hexadecimal and ascending, one a line, and prints those that are reached, by the program or by
 * children that share its memory or have a copy, in the order in which they were. The program has to be linked at a
 * fixed address, for x86. What it prints is thrown away. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST (1 << 20)
#define BREAKPOINT 0xcc

static unsigned long at[MOST];
static unsigned char was[MOST], told[MOST];
static int functions;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void begin(char **words)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
		_exit(126);
	if (ptrace(PTRACE_TRACEME, 0, 0, 0) == 0)
		execv(words[0], words);
	_exit(127);
}

static void read_functions(const char *path)
{
	FILE *file = fopen(path, "r");

	if (!file)
		fail(path);
	while (functions < MOST && fscanf(file, "%lx", &at[functions]) == 1)
		functions++;
	fclose(file);
}

static int memory_of(pid_t process)
{
	char path[64];
	int memory;

	snprintf(path, sizeof(path), "/proc/%d/mem", process);
	memory = open(path, O_RDWR | O_CLOEXEC);
	if (memory < 0)
		fail(path);
	return memory;
}

static void put_breakpoints(pid_t process)
{
	const unsigned char breakpoint = BREAKPOINT;
	int memory = memory_of(process);

	for (int i = 0; i < functions; i++)
		if (pread(memory, &was[i], 1, at[i]) != 1 || pwrite(memory, &breakpoint, 1, at[i]) != 1)
			fail("memory");
	close(memory);
}

static int number_of(unsigned long address)
{
	int low = 0, high = functions;

	while (low < high) {
		int middle = low + (high - low) / 2;

		if (at[middle] < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < functions && at[low] == address ? low : -1;
}

/* Whether a process stopped at a breakpoint; then it will go on as if there were none. */
static int reached(pid_t process)
{
	struct user_regs_struct registers;
	int number, memory;

	if (ptrace(PTRACE_GETREGS, process, 0, &registers) != 0)
		return 0;
	number = number_of(registers.rip - 1);
	if (number < 0)
		return 0;
	memory = memory_of(process);
	if (pwrite(memory, &was[number], 1, at[number]) != 1)
		fail("memory");
	close(memory);
	registers.rip -= 1;
	if (ptrace(PTRACE_SETREGS, process, 0, &registers) != 0)
		return 0;
	if (!told[number])
		printf("%lx\n", at[number]);
	told[number] = 1;
	return 1;
}

int main(int count, char **words)
{
	const long follow = PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
	int status;
	pid_t child;

	if (count < 3)
		return 2;
	read_functions(words[1]);
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0)
		begin(words + 2);
	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		fail(words[2]);
	if (ptrace(PTRACE_SETOPTIONS, child, 0, follow))
		fail("ptrace");
	put_breakpoints(child);
	ptrace(PTRACE_CONT, child, 0, 0);
	for (;;) {
		pid_t stopped = waitpid(-1, &status, __WALL);
		int pass;

		if (stopped < 0 && errno == EINTR)
			continue;
		if (stopped < 0)
			break;
		if (!WIFSTOPPED(status))
			continue;
		pass = WSTOPSIG(status);
		/* SIGSTOP is how a child of it begins; a clone is told by SIGTRAP. */
		if (pass == SIGSTOP || (pass == SIGTRAP && (status >> 16 || reached(stopped))))
			pass = 0;
		ptrace(PTRACE_CONT, stopped, 0, pass);
	}
	return 0;
}
