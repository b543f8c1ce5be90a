// A process whose arguments can't be read: its argv lies on pages that map a file on FUSE whose
// server is stopped, and whoever reads /proc/PID/cmdline waits as long as the server is.
//
//   argv_on_fuse DIR MARKER
//
// mounts a FUSE file system on the empty directory DIR, in a mount namespace of its own, maps a
// file of it over its own argv and stops the server. Since Linux 4.17 (CVE-2018-1120) reading
// cmdline skips file-backed pages, so the mapping alone would only cut the arguments short. What
// still works: a child reads that page through /proc/PID/mem and waits for the server with this
// process's mmap lock held for reading; this process asks for the lock for writing and waits
// for the child; and now every other reader of its memory waits behind it.
//
// Prints "PID SERVER_PID\n" when the trap is set. On the end of stdin the server is killed, which
// aborts the connection and so wakes everyone. All helpers die with this process, and the
// connection with the server, so nothing stays behind even if this process is killed; after 300 s it
// ends by itself.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 2, PADDING = 4 * PAGE, FILE_NODE = 2 };

static void die(const char *what) {
    fprintf(stderr, "argv_on_fuse: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void reply(int fuse, uint64_t unique, int error, const void *data, size_t len) {
    static char out[sizeof(struct fuse_out_header) + PAGES * PAGE];
    struct fuse_out_header head = {
        .len = (uint32_t)(sizeof head + len), .error = -error, .unique = unique};
    memcpy(out, &head, sizeof head);
    if (len)
        memcpy(out + sizeof head, data, len);
    if (write(fuse, out, head.len) < 0 && errno != ENOENT)
        die("reply");
}

static struct fuse_attr attr_of(uint64_t node) {
    struct fuse_attr attr = {.ino = node, .nlink = 1, .blksize = PAGE};
    attr.mode = node == FILE_NODE ? S_IFREG | 0644 : S_IFDIR | 0755;
    attr.size = node == FILE_NODE ? PAGES * PAGE : 0;
    return attr;
}

// Answers what mounting, opening and mapping need. The pages themselves are served as well, all
// 'f', for the case that a reader comes after the server was continued.
static void serve(int fuse) {
    static char in[256 * 1024];
    static char content[PAGES * PAGE];
    memset(content, 'f', sizeof content);
    for (;;) {
        ssize_t got = read(fuse, in, sizeof in);
        if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
            continue;
        if (got < (ssize_t)sizeof(struct fuse_in_header))
            _exit(0); // unmounted
        struct fuse_in_header *head = (struct fuse_in_header *)in;
        void *body = head + 1;
        switch (head->opcode) {
        case FUSE_INIT: {
            struct fuse_init_in *ask = body;
            struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                                        .minor = ask->minor < FUSE_KERNEL_MINOR_VERSION
                                                     ? ask->minor
                                                     : FUSE_KERNEL_MINOR_VERSION,
                                        .max_readahead = 0,
                                        .max_write = PAGE,
                                        .max_background = 4,
                                        .congestion_threshold = 3};
            reply(fuse, head->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_LOOKUP: {
            struct fuse_entry_out out = {
                .nodeid = FILE_NODE, .entry_valid = 3600, .attr_valid = 3600};
            out.attr = attr_of(FILE_NODE);
            reply(fuse, head->unique, strcmp(body, "argv") ? ENOENT : 0, &out,
                  strcmp(body, "argv") ? 0 : sizeof out);
            break;
        }
        case FUSE_GETATTR: {
            struct fuse_attr_out out = {.attr_valid = 3600, .attr = attr_of(head->nodeid)};
            reply(fuse, head->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_OPEN: {
            struct fuse_open_out out = {.fh = 1};
            reply(fuse, head->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_READ: {
            struct fuse_read_in *ask = body;
            size_t left = ask->offset < sizeof content ? sizeof content - ask->offset : 0;
            reply(fuse, head->unique, 0, content, ask->size < left ? ask->size : left);
            break;
        }
        case FUSE_FLUSH:
        case FUSE_RELEASE:
            reply(fuse, head->unique, 0, NULL, 0);
            break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
            break; // no answer is due
        default:
            reply(fuse, head->unique, ENOSYS, NULL, 0);
        }
    }
}

static void mount_fuse(int fuse, const char *dir) {
    if (unshare(CLONE_NEWNS))
        die("unshare");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        die("make mounts private");
    char options[128];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
    if (mount("argv_on_fuse", dir, "fuse", MS_NOSUID | MS_NODEV, options))
        die("mount");
}

static pid_t start_child(const char *name) {
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(0);
        prctl(PR_SET_NAME, name);
    }
    return child;
}

// A helper that outlives its purpose must not hold our pipes open.
static void let_go_of_pipes(void) {
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
}

static char state_of(pid_t pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    if (got <= 0)
        return 0;
    text[got] = 0;
    char *at = strrchr(text, ')');
    return at ? at[2] : 0;
}

// True once the process waits in the kernel: seen so ten times in a row.
static int waits(pid_t pid) {
    for (int seen = 0, tries = 0; tries < 500; tries++) {
        char state = state_of(pid);
        if (!state || state == 'Z')
            return 0;
        seen = state == 'D' || state == 'S' ? seen + 1 : 0;
        if (seen == 10)
            return 1;
        usleep(5000);
    }
    return 0;
}

static void keep(pid_t target, pid_t server) {
    if (waits(target)) {
        printf("%d %d\n", (int)target, (int)server);
        fflush(stdout);
        char byte;
        while (read(0, &byte, 1) > 0)
            ;
    } else {
        fprintf(stderr, "argv_on_fuse: the trap does not close\n");
    }
    kill(server, SIGKILL); // closes /dev/fuse, which ends every request with an error
    _exit(0);
}

static void read_memory(pid_t target, uintptr_t at) {
    char path[64], byte;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)target);
    let_go_of_pipes();
    int memory = open(path, O_RDONLY | O_CLOEXEC);
    _exit(memory < 0 || pread(memory, &byte, 1, (off_t)at) != 1);
}

int main(int argc, char **argv) {
    if (argc != 4 || strlen(argv[3]) != PADDING) {
        // Again, with an argument so long that whole pages of the stack hold nothing else.
        if (argc < 3) {
            fprintf(stderr, "usage: argv_on_fuse DIR MARKER\n");
            return 2;
        }
        char *padding = malloc(PADDING + 1);
        memset(padding, 'x', PADDING);
        padding[PADDING] = 0;
        char *again[] = {argv[0], argv[1], argv[2], padding, NULL};
        execv("/proc/self/exe", again);
        die("exec");
    }
    const char *dir = argv[1];
    pid_t self = getpid();
    prctl(PR_SET_NAME, argv[2]);
    alarm(300); // whatever becomes of the one who started it: every `ps` of the host waits here

    int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fuse < 0)
        die("/dev/fuse");
    mount_fuse(fuse, dir);
    pid_t server = start_child("fuse_server");
    if (server == 0) {
        let_go_of_pipes();
        serve(fuse);
    }
    close(fuse);

    char path[4096];
    snprintf(path, sizeof path, "%s/argv", dir);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        die(path);
    uintptr_t page = ((uintptr_t)argv[3] + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    void *at = mmap((void *)page, PAGES * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0);
    if (at == MAP_FAILED)
        die("mmap");
    close(file);
    // Nobody needs the path any more; the mapping keeps the file system.
    if (umount2(dir, MNT_DETACH))
        die("umount");

    int status;
    if (kill(server, SIGSTOP) || waitpid(server, &status, WUNTRACED) != server ||
        !WIFSTOPPED(status))
        die("stopping the server");
    // Forking takes the mmap lock: the keeper first, and nothing after the reader.
    int reader_known[2];
    if (pipe2(reader_known, O_CLOEXEC))
        die("pipe");
    pid_t keeper = start_child("fuse_keeper");
    if (keeper == 0) {
        pid_t reader;
        close(reader_known[1]);
        if (read(reader_known[0], &reader, sizeof reader) == sizeof reader && waits(reader))
            keep(self, server);
        kill(server, SIGKILL);
        _exit(1);
    }
    pid_t reader = start_child("fuse_reader");
    if (reader == 0)
        read_memory(self, page);
    if (!waits(reader))
        die("the reader does not wait");
    if (write(reader_known[1], &reader, sizeof reader) != sizeof reader)
        die("pipe");
    close(reader_known[1]);
    close(0);
    close(1);
    // Waits here until the server is dead.
    mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    kill(server, SIGKILL);
    kill(reader, SIGKILL);
    kill(keeper, SIGKILL);
    while (wait(&status) > 0 || errno == EINTR)
        ;
    return 0;
}
