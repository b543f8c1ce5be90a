// Makes one PID be one process after another.
//
// Commands on stdin, one a line; each is answered by one line on stdout:
//
//   spawn PID MARKER [CGROUPDIR...]   a child with this PID         -> ok START_TICKS
//   swap PID MARKER [CGROUPDIR...]    kills and reaps it, then spawns -> ok START_TICKS
//   kill PID                          kills and reaps it            -> ok 0
//   quit, or the end of stdin         kills all its children and ends
//
// Anything that fails is answered by "err WHAT: WHY". The child joins the cgroups, then executes
// this program anew under the name MARKER with MARKER as its argument, and sleeps. A cgroup2
// directory is joined at birth. Before that exec a child shows "reuse_pid" as its name and the
// arguments of this program. Children die with this program.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_DIRS = 16, MAX_CHILDREN = 64 };

static pid_t children[MAX_CHILDREN];

static void remember(pid_t pid) {
    for (int i = 0; i < MAX_CHILDREN; i++)
        if (!children[i]) {
            children[i] = pid;
            return;
        }
}

static int end_child(pid_t pid) {
    for (int i = 0; i < MAX_CHILDREN; i++)
        if (children[i] == pid) {
            kill(pid, SIGKILL);
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
            children[i] = 0;
            return 0;
        }
    errno = ECHILD;
    return -1;
}

static void end_all(void) {
    for (int i = 0; i < MAX_CHILDREN; i++)
        if (children[i])
            end_child(children[i]);
}

static unsigned long long start_ticks(pid_t pid) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    if (got <= 0)
        return 0;
    text[got] = 0;
    char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

// In the child; says through `report` what failed, which is closed by a successful exec.
static void become(int report, const char *marker, char **dirs, int count, int joined) {
    char path[4096];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < count; i++) {
        if (i == joined)
            continue;
        snprintf(path, sizeof path, "%s/cgroup.procs", dirs[i]);
        int file = open(path, O_WRONLY | O_CLOEXEC);
        if (file < 0 || write(file, "0", 1) != 1)
            goto failed;
        close(file);
    }
    snprintf(path, sizeof path, "%s", getenv("REUSE_PID_LINKS"));
    snprintf(path + strlen(path), sizeof path - strlen(path), "/%s", marker);
    unlink(path);
    if (symlink("/proc/self/exe", path) && errno != EEXIST)
        goto failed;
    char *argv[] = {(char *)marker, "--sleep", (char *)marker, NULL};
    char *envp[] = {NULL};
    // The name of the link becomes comm.
    execve(path, argv, envp);
failed:;
    int why = errno;
    if (write(report, &why, sizeof why) != sizeof why)
        _exit(2);
    _exit(1);
}

static pid_t spawn(pid_t pid, const char *marker, char **dirs, int count) {
    int report[2];
    if (pipe2(report, O_CLOEXEC))
        return -1;
    struct clone_args args = {.exit_signal = SIGCHLD,
                              .set_tid = (uint64_t)(uintptr_t)&pid,
                              .set_tid_size = 1};
    int joined = -1, cgroup = -1;
    for (int i = 0; i < count && joined < 0; i++) {
        struct statfs fs;
        if (statfs(dirs[i], &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC) {
            cgroup = open(dirs[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            joined = cgroup < 0 ? -1 : i;
        }
    }
    if (joined >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup;
    }
    long child = syscall(SYS_clone3, &args, sizeof args);
    if (child == 0) {
        close(report[0]);
        become(report[1], marker, dirs, count, joined);
    }
    int why = errno;
    close(report[1]);
    if (cgroup >= 0)
        close(cgroup);
    if (child > 0) {
        remember((pid_t)child);
        why = 0;
        ssize_t got;
        while ((got = read(report[0], &why, sizeof why)) < 0 && errno == EINTR)
            ;
        if (why)
            end_child((pid_t)child);
    }
    close(report[0]);
    errno = why;
    return child > 0 && !why ? (pid_t)child : -1;
}

static void command(char *line) {
    char *words[MAX_DIRS + 3];
    int count = 0;
    for (char *word = strtok(line, " \n"); word && count < MAX_DIRS + 3; word = strtok(NULL, " \n"))
        words[count++] = word;
    if (!count)
        return;
    int swap = !strcmp(words[0], "swap");
    if (!strcmp(words[0], "quit")) {
        end_all();
        exit(0);
    } else if (!strcmp(words[0], "kill") && count == 2) {
        if (end_child(atoi(words[1])))
            printf("err kill: %s\n", strerror(errno));
        else
            printf("ok 0\n");
    } else if ((swap || !strcmp(words[0], "spawn")) && count >= 3) {
        pid_t pid = atoi(words[1]);
        if (swap && end_child(pid))
            printf("err kill: %s\n", strerror(errno));
        else if (spawn(pid, words[2], words + 3, count - 3) < 0)
            printf("err spawn: %s\n", strerror(errno));
        else
            printf("ok %llu\n", start_ticks(pid));
    } else {
        printf("err what is %s\n", words[0]);
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--sleep")) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); // exec keeps it, but not for a changed credential
        for (;;)
            pause();
    }
    if (argc != 2) {
        fprintf(stderr, "usage: reuse_pid DIR_FOR_LINKS\n");
        return 2;
    }
    setenv("REUSE_PID_LINKS", argv[1], 1);
    char line[8192];
    while (fgets(line, sizeof line, stdin))
        command(line);
    end_all();
    return 0;
}
