// Makes many cheap processes.
//
// usage: crowd ROOM      reads lines from stdin; each is answered by one line on stdout. ROOM is a word
//                        of 15 characters: there is where a process of a storm writes its mark.
//
//   make WORD...         a leader, and what is to be below it       -> ok PID
//   storm WORD...        a leader that makes processes which end    -> ok PID
//   change WORD...       a process whose threads run this program anew, again and again -> ok PID
//   count                how many processes all storms have made    -> ok N
//   end PID              kills a leader and reaps it                -> ok 0
//
// Anything that fails is answered by "err WHAT: WHY". The words:
//
//   cgroup=FILE          the cgroup.procs file of a cgroup that the leader is in (several)
//   comm=HEX             name
//   uid=N gid=N ruid=N   ids; ruid is another real one
//   nice=N  session  tty its own session, its own terminal
//   ns=WORD,...          namespaces: pid user mnt net ipc uts
//   map=N                the first of 65536 ids that user and group 0 inside are outside
//   depth=N              PID namespaces, one in the other
//   count=N threads=N    processes, the leader included, and threads of each
//   dumpable             its user may look at it
//   stop  dead           it stops; all but the leader have ended and are not reaped
//   mark=C rate=N pool=N of a storm: its letter, processes a second, the first of 64 PIDs that are used
//                        again and again (0: the kernel's choice)
//
// Everything dies with this program, and this with its parent or its stdin. A process of a storm has the
// ids and cgroups of its kind, and the mark "q", its letter and its number as name and argument one.
// Some run this program anew, alone or from a thread.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CGROUPS = 24, POOL = 64, MARK = 15, STACK = 4096 };

static struct wish {
    char *cgroup[CGROUPS];
    int cgroups, nice, session, tty, stop, dead, dumpable, flags, depth, has_comm, has_uid, has_gid, has_ruid;
    char comm[16], mark;
    uid_t uid, ruid;
    gid_t gid;
    long map, count, threads, rate, pool;
} wish;

static char **own;                // argv of this program
static volatile uint64_t *made;   // by all storms
static char self[4096];

static _Noreturn void idle(void) {
    for (;;)
        pause();
}

static _Noreturn void fail(int report, const char *what) {
    dprintf(report, "err %s: %s\n", what, strerror(errno));
    _exit(1);
}

// Nothing of a process keeps this program's pipes open.
static void let_go(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        dup2(null, fd);
}

static void die_with(pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (parent && getppid() != parent)
        _exit(1);
}

// Only calls the kernel: it has no thread-local storage of its own.
static int rest(void *unused) {
    for (;;)
        syscall(SYS_pause);
    return unused != NULL;
}

static const int THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

static int start_threads(long count) {
    if (count < 1)
        return 0;
    char *stacks = mmap(NULL, (size_t)count * STACK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED)
        return -1;
    for (long i = 0; i < count; i++)
        if (clone(rest, stacks + (i + 1) * STACK, THREAD, NULL) < 0)
            return -1;
    return 0;
}

static void take_terminal(int report) {
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || grantpt(master) || unlockpt(master))
        fail(report, "a terminal");
    int end = open(ptsname(master), O_RDWR | O_CLOEXEC);
    if (end < 0 || ioctl(end, TIOCSCTTY, 0) < 0)
        fail(report, "its terminal");
}

static void set_ids(int report) {
    gid_t gid = wish.gid;
    if (wish.has_gid && setresgid(gid, gid, gid))
        fail(report, "setresgid");
    uid_t real = wish.has_ruid ? wish.ruid : wish.uid;
    if (wish.has_uid && setresuid(real, wish.uid, wish.uid))
        fail(report, "setresuid");
    // Whoever changes his ids can't be looked at by his own user.
    if (wish.dumpable)
        prctl(PR_SET_DUMPABLE, 1);
}

// The leader, or what becomes of it below more PID namespaces.
static _Noreturn void lead(int report) {
    for (; wish.depth > 1; wish.depth--) {
        pid_t child = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
        if (child < 0)
            fail(report, "another namespace");
        if (child > 0) {
            close(report);
            let_go();
            idle();
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    if ((wish.session || wish.tty) && setsid() < 0 && getsid(0) != getpid())
        fail(report, "setsid");
    if (wish.tty)
        take_terminal(report);
    if (wish.has_comm)
        prctl(PR_SET_NAME, wish.comm);
    if (wish.nice && setpriority(PRIO_PROCESS, 0, wish.nice))
        fail(report, "nice");
    pid_t parent = getpid();
    for (long i = 1; i < wish.count; i++) {
        pid_t child = fork();
        if (child < 0)
            fail(report, "fork");
        if (child == 0) {
            set_ids(report);
            die_with(parent);
            if (wish.dead)
                _exit(0);
            if (start_threads(wish.threads - 1))
                fail(report, "clone");
            close(report);
            let_go();
            idle();
        }
    }
    set_ids(report);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (start_threads(wish.threads - 1))
        fail(report, "clone");
    // Children have begun by the time that is told: they hold the pipe until then.
    dprintf(report, "ok\n");
    close(report);
    let_go();
    if (wish.stop)
        raise(SIGSTOP);
    idle();
}

static void nap(long nanoseconds) {
    struct timespec t = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static int run_anew(void *mark) {
    char *argv[] = {(char *)"crowd", mark, NULL};
    char *envp[] = {NULL};
    syscall(SYS_execve, self, argv, envp);
    syscall(SYS_exit_group, 1);
    return 1;
}

// One process of a storm, made by fork.
static _Noreturn void passing(uint64_t number, pid_t parent) {
    char mark[MARK + 1];
    static char stack[STACK * 4] __attribute__((aligned(16)));
    snprintf(mark, sizeof mark, "q%c%013llu", wish.mark, (unsigned long long)number);
    if (setresuid(wish.uid, wish.uid, wish.uid))
        _exit(1);
    die_with(parent);
    prctl(PR_SET_NAME, mark);
    memcpy(own[1], mark, MARK);
    nap((long)(number % 7) * 4000000);
    if (number % 8 == 5)
        run_anew(mark);
    if (number % 8 == 6 && clone(run_anew, stack + sizeof stack, THREAD, mark) > 0)
        idle();
    _exit(0);
}

// A PID is used again after a clock tick at the earliest: nobody who is told of the PID and the start, in
// ticks, can know one from the other else. Two kinds share a pool by turns.
static int may_use(long slot) {
    static long last[POOL];
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    long now = t.tv_sec * 1000 + t.tv_nsec / 1000000, phase = now % 100;
    int turn = wish.mark % 2 ? phase < 30 : phase >= 50 && phase < 80;
    if (!turn || now - last[slot] < 50)
        return 0;
    last[slot] = now;
    return 1;
}

static pid_t begin(uint64_t turn) {
    struct clone_args args = {.exit_signal = SIGCHLD};
    long slot = (long)(turn % POOL);
    pid_t chosen = (pid_t)(wish.pool + slot);
    if (wish.pool && may_use(slot)) {
        args.set_tid = (uint64_t)(uintptr_t)&chosen;
        args.set_tid_size = 1;
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static _Noreturn void storm(int report) {
    char mark[MARK + 1];
    snprintf(mark, sizeof mark, "q%c%013d", wish.mark, 0);
    prctl(PR_SET_NAME, mark);
    memcpy(own[1], mark, MARK);
    if (wish.nice && setpriority(PRIO_PROCESS, 0, wish.nice))
        fail(report, "nice");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dprintf(report, "ok\n");
    close(report);
    let_go();
    // Some kinds are reaped by the kernel at once, others lie about for a while.
    if (wish.mark % 2)
        signal(SIGCHLD, SIG_IGN);
    pid_t parent = getpid();
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    long number = 1;
    for (uint64_t turn = 0;; turn++) {
        pid_t child = begin(turn);
        if (child == 0)
            passing((uint64_t)number, parent);
        if (child > 0) {
            number++;
            __atomic_add_fetch(made, 1, __ATOMIC_RELAXED);
            next.tv_nsec += 1000000000 / wish.rate;
            if (next.tv_nsec >= 1000000000) {
                next.tv_nsec -= 1000000000;
                next.tv_sec++;
            }
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        } else if (errno == EAGAIN) {
            nap(1000000);
        }
        while (!(wish.mark % 2) && waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}

// A process that runs this program anew from a thread, which then has its PID: for ever.
static _Noreturn void change(char *mark) {
    static char stack[STACK * 4] __attribute__((aligned(16)));
    prctl(PR_SET_NAME, mark);
    nap(500000);
    if (clone(run_anew, stack + sizeof stack, THREAD, mark) < 0)
        _exit(1);
    idle();
}

static int write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t size = (ssize_t)strlen(text);
    int right = fd >= 0 && write(fd, text, (size_t)size) == size;
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (!right)
        printf("err %s: %s\n", path, strerror(error));
    return right ? 0 : -1;
}

static int prepare(pid_t pid) {
    char text[64], path[64];
    snprintf(text, sizeof text, "%d", (int)pid);
    for (int i = 0; i < wish.cgroups; i++)
        if (write_text(wish.cgroup[i], text))
            return -1;
    if (!(wish.flags & CLONE_NEWUSER) || !wish.map)
        return 0;
    snprintf(text, sizeof text, "0 %ld 65536", wish.map);
    snprintf(path, sizeof path, "/proc/%d/uid_map", (int)pid);
    if (write_text(path, text))
        return -1;
    snprintf(path, sizeof path, "/proc/%d/gid_map", (int)pid);
    return write_text(path, text);
}

static void start(char what) {
    int go[2], report[2];
    if (pipe2(go, O_CLOEXEC) || pipe2(report, O_CLOEXEC)) {
        printf("err pipe: %s\n", strerror(errno));
        return;
    }
    fflush(stdout); // the child would have it too
    pid_t parent = getpid();
    pid_t pid = (pid_t)syscall(SYS_clone, wish.flags | SIGCHLD, 0, 0, 0, 0);
    int error = errno;
    if (pid == 0) {
        char byte;
        close(go[1]);
        close(report[0]);
        die_with(wish.flags & CLONE_NEWPID ? 0 : parent);
        if (read(go[0], &byte, 1) != 1)
            _exit(1);
        close(go[0]);
        if (what == 'm')
            lead(report[1]);
        if (what == 's')
            storm(report[1]);
        dprintf(report[1], "ok\n");
        close(report[1]);
        let_go();
        run_anew((char *)"changes-always-");
    }
    close(go[0]);
    close(report[1]);
    if (pid < 0) {
        printf("err clone: %s\n", strerror(error));
    } else if (prepare(pid) == 0) {
        char line[512] = "";
        FILE *from = write(go[1], "g", 1) == 1 ? fdopen(report[0], "r") : NULL;
        if (from == NULL || fgets(line, sizeof line, from) == NULL)
            printf("err leader: it ended\n");
        else if (strcmp(line, "ok\n"))
            fputs(line, stdout);
        else {
            // To the end: whoever has not begun still holds it.
            while (fgets(line, sizeof line, from) != NULL)
                ;
            printf("ok %d\n", (int)pid);
        }
        if (from != NULL) {
            fclose(from);
            report[0] = -1;
        }
    }
    close(go[1]);
    if (report[0] >= 0)
        close(report[0]);
}

static int namespaces(char *list) {
    static const struct { const char *name; int flag; } KNOWN[] = {
        {"pid", CLONE_NEWPID}, {"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS},
        {"net", CLONE_NEWNET}, {"ipc", CLONE_NEWIPC},   {"uts", CLONE_NEWUTS},
    };
    for (char *name = strtok(list, ","); name; name = strtok(NULL, ",")) {
        size_t i = 0;
        while (i < sizeof KNOWN / sizeof *KNOWN && strcmp(name, KNOWN[i].name))
            i++;
        if (i == sizeof KNOWN / sizeof *KNOWN)
            return -1;
        wish.flags |= KNOWN[i].flag;
    }
    return 0;
}

static int word(char *text) {
    char *value = strchr(text, '=');
    long number = 0;
    if (value) {
        *value++ = 0;
        number = strtol(value, NULL, 10);
    }
#define IS(name) (strcmp(text, name) == 0)
    if (!value) {
        wish.session |= IS("session");
        wish.tty |= IS("tty");
        wish.stop |= IS("stop");
        wish.dead |= IS("dead");
        wish.dumpable |= IS("dumpable");
        return IS("session") || IS("tty") || IS("stop") || IS("dead") || IS("dumpable") ? 0 : -1;
    }
    if (IS("cgroup") && wish.cgroups < CGROUPS)
        wish.cgroup[wish.cgroups++] = strdup(value);
    else if (IS("comm")) {
        for (size_t i = 0; i < 15 && value[2 * i] && value[2 * i + 1]; i++) {
            char hex[3] = {value[2 * i], value[2 * i + 1], 0};
            wish.comm[i] = (char)strtol(hex, NULL, 16);
        }
        wish.has_comm = 1;
    } else if (IS("uid"))
        wish.uid = (uid_t)number, wish.has_uid = 1;
    else if (IS("ruid"))
        wish.ruid = (uid_t)number, wish.has_ruid = 1;
    else if (IS("gid"))
        wish.gid = (gid_t)number, wish.has_gid = 1;
    else if (IS("nice"))
        wish.nice = (int)number;
    else if (IS("map"))
        wish.map = number;
    else if (IS("depth"))
        wish.depth = (int)number;
    else if (IS("count"))
        wish.count = number;
    else if (IS("threads"))
        wish.threads = number;
    else if (IS("rate"))
        wish.rate = number;
    else if (IS("pool"))
        wish.pool = number;
    else if (IS("mark"))
        wish.mark = *value;
    else if (IS("ns"))
        return namespaces(value);
    else
        return -1;
    return 0;
}

static void take(char *line) {
    // Words are taken apart first: a list of namespaces is taken apart on its own.
    char *words[64], *kept;
    int many = 0;
    for (char *at = strtok_r(line, " \n", &kept); at && many < 64; at = strtok_r(NULL, " \n", &kept))
        words[many++] = at;
    memset(&wish, 0, sizeof wish);
    wish.count = wish.threads = wish.depth = 1;
    wish.rate = 1000;
    if (many == 0) {
        printf("err line: empty\n");
    } else if (strcmp(words[0], "count") == 0) {
        printf("ok %llu\n", (unsigned long long)*made);
    } else if (strcmp(words[0], "end") == 0 && many == 2) {
        pid_t pid = (pid_t)strtol(words[1], NULL, 10);
        if (pid > 1 && kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid)
            printf("ok 0\n");
        else
            printf("err end: %s\n", strerror(errno));
    } else {
        int bad = 0;
        for (int i = 1; i < many; i++)
            bad |= word(words[i]);
        char what = words[0][0];
        if (bad || strchr("msc", what) == NULL)
            printf("err line: not understood\n");
        else
            start(what);
        for (int i = 0; i < wish.cgroups; i++)
            free(wish.cgroup[i]);
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    char line[8192];
    if (argc != 2 || strlen(argv[1]) != MARK)
        return 2;
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (size < 0)
        return 1;
    if (strcmp(argv[1], "changes-always-") == 0)
        change(argv[1]);
    if (argv[1][0] == 'q') {
        prctl(PR_SET_NAME, argv[1]);
        nap(2000000);
        return 0;
    }
    own = argv;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // What outlives its leader is waited for too.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
    made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return 1;
    while (fgets(line, sizeof line, stdin) != NULL)
        take(line);
    // Leaders and those who have come to this program; below them the kernel passes it on.
    for (;;) {
        char path[64], list[65536];
        snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? -1 : read(fd, list, sizeof list - 1);
        if (fd >= 0)
            close(fd);
        list[got < 0 ? 0 : got] = 0;
        for (char *at = strtok(list, " "); at; at = strtok(NULL, " "))
            kill((pid_t)strtol(at, NULL, 10), SIGKILL);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
            return 0;
        nap(2000000);
    }
}
