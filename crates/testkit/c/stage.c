/*
 * Sets scenes for tests of which file a process really runs: files, mounts, namespaces, and
 * processes of marked.c in them.
 *
 * usage: stage TEMPLATE OFFSET   (the built marked.c, and where its `text` is in it)
 *
 * A command is "N\n" and then N fields, each ended by NUL; it is answered by one line,
 * "ok ..." or "err ...". Everything started dies with this program, and this one with its parent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/btrfs.h>
#include <linux/loop.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { FIELDS = 32, ROOM = 64 * 1024, MARK = 16, SAID = 33, CHILDREN = 4096 };

static char *template;
static size_t template_size;
static off_t mark_at;
static struct { pid_t pid; int talk; } child[CHILDREN];
static char reply[512];

static int failed(const char *what)
{
	snprintf(reply, sizeof reply, "err %s: %s", what, strerror(errno));
	return -1;
}

static int all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);
		if (n <= 0)
			return -1;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Makes the directory and those above it. */
static int make_dirs(char *path)
{
	if (mkdir(path, 0755) == 0 || errno == EEXIST)
		return 0;
	if (errno != ENOENT)
		return -1;
	char *slash = strrchr(path, '/');
	if (slash == NULL || slash == path)
		return -1;
	*slash = 0;
	int done = make_dirs(path);
	*slash = '/';
	if (done < 0)
		return -1;
	return mkdir(path, 0755) == 0 || errno == EEXIST ? 0 : -1;
}

static int make_parent(char *path)
{
	char *slash = strrchr(path, '/');
	if (slash == NULL || slash == path)
		return 0;
	*slash = 0;
	int done = make_dirs(path);
	*slash = '/';
	return done;
}

static int fill(int fd, const char *mark)
{
	if (strlen(mark) != MARK)
		return errno = EINVAL, -1;
	if (all(fd, template, template_size) < 0 || pwrite(fd, mark, MARK, mark_at) != MARK)
		return -1;
	return fchmod(fd, 0755);
}

static int put(char *path, const char *mark)
{
	if (make_parent(path) < 0)
		return failed("mkdir");
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (fd < 0)
		return failed("open");
	int done = fill(fd, mark);
	int error = errno;
	close(fd);
	errno = error;
	return done < 0 ? failed("fill") : 0;
}

/* Writes into a file where its text, or its note, is. */
static int patch(const char *path, const char *text, off_t at)
{
	int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failed("open");
	ssize_t n = pwrite(fd, text, MARK, at);
	close(fd);
	return n == MARK ? 0 : failed("pwrite");
}

static int append(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return failed("open");
	int done = all(fd, "more", 4);
	close(fd);
	return done < 0 ? failed("write") : 0;
}

/* A file that is all hole, as large as the template. */
static int hole(char *path)
{
	if (make_parent(path) < 0)
		return failed("mkdir");
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (fd < 0 || ftruncate(fd, (off_t)template_size) < 0)
		return failed("hole");
	close(fd);
	return 0;
}

static int drop(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st, (void)where;
	if (kind == FTW_DP || kind == FTW_D || kind == FTW_DNR)
		rmdir(path);
	else
		unlink(path);
	return 0;
}

static int mount_flags(const char *words)
{
	static const struct { const char *word; unsigned long flag; } known[] = {
		{ "bind", MS_BIND }, { "rec", MS_REC }, { "ro", MS_RDONLY },
		{ "private", MS_PRIVATE }, { "move", MS_MOVE },
	};
	unsigned long flags = 0;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strstr(words, known[i].word) != NULL)
			flags |= known[i].flag;
	return (int)flags;
}

/* The new mount calls: each option is a field, "key=value" with the value as it is, or "flag". */
static int mount_new(const char *type, const char *to, char **options, int n)
{
	int fs = (int)syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */);
	if (fs < 0)
		return failed("fsopen");
	for (int i = 0; i < n; i++) {
		char *equals = strchr(options[i], '=');
		int kind = equals == NULL ? 0 /* FSCONFIG_SET_FLAG */ : 1 /* FSCONFIG_SET_STRING */;
		if (equals != NULL)
			*equals++ = 0;
		if (syscall(SYS_fsconfig, fs, kind, options[i], equals, 0) < 0) {
			int done = failed(options[i]);
			close(fs);
			return done;
		}
	}
	int mnt = -1;
	if (syscall(SYS_fsconfig, fs, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) < 0 ||
	    (mnt = (int)syscall(SYS_fsmount, fs, 1, 0)) < 0 ||
	    syscall(SYS_move_mount, mnt, "", AT_FDCWD, to, 4 /* MOVE_MOUNT_F_EMPTY_PATH */) < 0) {
		int done = failed("fsmount");
		close(fs);
		close(mnt);
		return done;
	}
	close(fs);
	close(mnt);
	return 0;
}

/* A loop device that goes away with its last user, this program included. */
static int loop(const char *image)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int file = open(image, O_RDWR | O_CLOEXEC);
	if (control < 0 || file < 0)
		return failed("loop-control");
	for (int tries = 0; tries < 16; tries++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		char name[32];
		snprintf(name, sizeof name, "/dev/loop%d", number);
		int device = number < 0 ? -1 : open(name, O_RDWR | O_CLOEXEC);
		if (device < 0)
			return failed("loop device");
		struct loop_config config = { .fd = (uint32_t)file };
		config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
		if (ioctl(device, LOOP_CONFIGURE, &config) == 0) {
			close(control);
			close(file);
			snprintf(reply, sizeof reply, "ok %s", name);
			return 0;
		}
		close(device);
	}
	return failed("LOOP_CONFIGURE");
}

/* A new btrfs subvolume, or a snapshot of the one at `from`. */
static int subvolume(const char *from, char *path)
{
	char *slash = strrchr(path, '/');
	int source = from == NULL ? 0 : open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (slash == NULL || source < 0)
		return failed("source");
	*slash = 0;
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct btrfs_ioctl_vol_args args = { .fd = source };
	snprintf(args.name, sizeof args.name, "%s", slash + 1);
	int done = dir < 0 ? -1
			   : ioctl(dir, from == NULL ? BTRFS_IOC_SUBVOL_CREATE
						     : BTRFS_IOC_SNAP_CREATE, &args);
	int error = errno;
	close(dir);
	if (from != NULL)
		close(source);
	errno = error;
	return done < 0 ? failed("btrfs") : 0;
}

static int to_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int done = all(fd, text, strlen(text));
	close(fd);
	return done;
}

static int apart(const char *which)
{
	int flags = CLONE_NEWNS | (strcmp(which, "user") == 0 ? CLONE_NEWUSER : 0);
	if (unshare(flags) < 0)
		return failed("unshare");
	if ((flags & CLONE_NEWUSER) != 0 &&
	    (to_file("/proc/self/setgroups", "deny") < 0 ||
	     to_file("/proc/self/uid_map", "0 0 1\n") < 0 ||
	     to_file("/proc/self/gid_map", "0 0 1\n") < 0))
		return failed("uid_map");
	/* With other credentials the wish is forgotten. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return failed("private");
	return 0;
}

static int slot_of(pid_t pid)
{
	for (int i = 0; i < CHILDREN; i++)
		if (child[i].pid == pid)
			return i;
	return -1;
}

/* What the process says of itself. */
static int hear(int slot)
{
	char said[SAID + 1];
	size_t got = 0;
	while (got < SAID) {
		struct pollfd wait = { child[slot].talk, POLLIN, 0 };
		if (poll(&wait, 1, 10000) != 1)
			return errno = ETIMEDOUT, failed("marked");
		ssize_t n = read(child[slot].talk, said + got, SAID - got);
		if (n <= 0)
			return errno = ECHILD, failed("marked");
		got += (size_t)n;
	}
	if (strncmp(said, "exec:", 5) == 0)
		return snprintf(reply, sizeof reply, "err %.32s", said), -1;
	snprintf(reply, sizeof reply, "ok %d %.16s %.16s", child[slot].pid, said, said + MARK);
	return 0;
}

/* Runs the descriptor, or else the path, below `root` when there is one. */
static int start(const char *path, int file, const char *root)
{
	int slot = slot_of(0), pair[2];
	if (slot < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return failed("socketpair");
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid < 0)
		return failed("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		char *args[] = { (char *)"marked", NULL };
		char *none[] = { NULL };
		if (root != NULL && (chroot(root) < 0 || chdir("/") < 0))
			_exit(2);
		if (dup2(pair[1], 0) < 0)
			_exit(3);
		if (file >= 0)
			syscall(SYS_execveat, file, "", args, none, AT_EMPTY_PATH);
		else
			execve(path, args, none);
		int error = errno;
		char said[SAID + 1];
		snprintf(said, sizeof said, "exec: %-27.27s", strerror(error));
		all(0, said, SAID);
		_exit(4);
	}
	close(pair[1]);
	child[slot].pid = pid;
	child[slot].talk = pair[0];
	return hear(slot);
}

/* Runs a file without a name: "memfd", or "tmpfile" in a directory. */
static int start_nameless(const char *how, const char *dir, const char *mark)
{
	int made = strcmp(how, "memfd") == 0 ? memfd_create("marked", MFD_CLOEXEC)
					     : open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0755);
	if (made < 0 || fill(made, mark) < 0)
		return failed(how);
	char own[64];
	snprintf(own, sizeof own, "/proc/self/fd/%d", made);
	int file = open(own, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return failed("reopen");
	close(made);
	int done = start(NULL, file, NULL);
	close(file);
	return done;
}

static int ask(pid_t pid)
{
	int slot = slot_of(pid);
	if (slot < 0 || write(child[slot].talk, "\n", 1) != 1)
		return failed("ask");
	return hear(slot);
}

static int end(pid_t pid)
{
	int slot = slot_of(pid);
	if (slot < 0)
		return errno = ESRCH, failed("end");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(child[slot].talk);
	child[slot].pid = 0;
	return 0;
}

#define IS(name, fields) (strcmp(f[0], name) == 0 && n == 1 + (fields))
#define CALL(expression) ((expression) < 0 ? failed(f[0]) : 0)

static int make(char **f, int n)
{
	if (IS("mkdir", 1))
		return CALL(make_dirs(f[1]));
	if (IS("put", 2))
		return put(f[1], f[2]);
	if (IS("mark", 2))
		return patch(f[1], f[2], mark_at);
	if (IS("note", 2))
		return patch(f[1], f[2], mark_at + MARK);
	if (IS("append", 1))
		return append(f[1]);
	if (IS("subvolume", 1))
		return subvolume(NULL, f[1]);
	if (IS("snapshot", 2))
		return subvolume(f[1], f[2]);
	if (IS("hole", 1))
		return hole(f[1]);
	if (IS("whiteout", 1))
		return make_parent(f[1]) < 0 ? failed("mkdir")
					     : CALL(mknod(f[1], S_IFCHR | 0600, 0));
	if (IS("xattr", 3))
		return CALL(lsetxattr(f[1], f[2], f[3], strlen(f[3]), 0));
	if (IS("link", 2))
		return make_parent(f[2]) < 0 ? failed("mkdir") : CALL(link(f[1], f[2]));
	if (IS("symlink", 2))
		return make_parent(f[2]) < 0 ? failed("mkdir") : CALL(symlink(f[1], f[2]));
	if (IS("rename", 2))
		return CALL(rename(f[1], f[2]));
	if (IS("unlink", 1))
		return CALL(unlink(f[1]));
	if (IS("rmtree", 1))
		return nftw(f[1], drop, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT), 0;
	if (IS("chmod", 2))
		return CALL(chmod(f[1], (mode_t)strtoul(f[2], NULL, 8)));
	if (IS("touch", 1))
		return CALL(utimensat(AT_FDCWD, f[1], NULL, 0));
	return 1;
}

static int place(char **f, int n)
{
	if (IS("chdir", 1))
		return CALL(chdir(f[1]));
	if (IS("mount", 5))
		return CALL(mount(f[1], f[2], f[3], (unsigned long)mount_flags(f[4]), f[5]));
	if (strcmp(f[0], "mount-new") == 0 && n > 3)
		return mount_new(f[1], f[2], f + 3, n - 3);
	if (IS("umount", 1))
		return CALL(umount2(f[1], 0));
	if (IS("detach", 1))
		return CALL(umount2(f[1], MNT_DETACH));
	if (IS("loop", 1))
		return loop(f[1]);
	if (IS("unshare", 1))
		return apart(f[1]);
	if (IS("start", 1))
		return start(f[1], -1, NULL);
	if (IS("start", 2))
		return start(f[1], -1, f[2]);
	if (IS("nameless", 3))
		return start_nameless(f[1], f[2], f[3]);
	if (IS("ask", 1))
		return ask((pid_t)atoi(f[1]));
	if (IS("end", 1))
		return end((pid_t)atoi(f[1]));
	errno = ENOSYS;
	return failed(f[0]);
}

static int load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	template_size = (size_t)st.st_size;
	template = mmap(NULL, template_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	return template == MAP_FAILED ? -1 : 0;
}

static int command(char *room, char **f)
{
	int n = 0, c;
	if (scanf("%d", &n) != 1 || n < 1 || n > FIELDS || getchar() != '\n')
		return 0;
	char *at = room;
	for (int i = 0; i < n; i++) {
		f[i] = at;
		while ((c = getchar()) > 0 && at < room + ROOM - 1)
			*at++ = (char)c;
		if (c != 0)
			return 0;
		*at++ = 0;
	}
	return n;
}

int main(int argc, char **argv)
{
	static char room[ROOM];
	char *f[FIELDS];
	int n;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	umask(022);
	if (argc != 3 || load(argv[1]) < 0)
		return 2;
	mark_at = (off_t)strtoull(argv[2], NULL, 10);
	while ((n = command(room, f)) > 0) {
		snprintf(reply, sizeof reply, "ok");
		int done = make(f, n);
		if (done > 0)
			place(f, n);
		for (char *p = reply; *p != 0; p++)
			if (*p == '\n')
				*p = ' ';
		printf("%s\n", reply);
		fflush(stdout);
	}
	return 0;
}
