// Makes a zombie.
//
//   zombie [--cgroup DIR]... [--remove]
//
// The child joins the cgroups and ends at once; this program does not reap it, prints "PID\n", and
// with --remove has removed the cgroups by then. On the end of stdin it reaps the child and ends.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
    fprintf(stderr, "zombie: %s: %s\n", what, strerror(errno));
    exit(1);
}

int main(int argc, char **argv) {
    int removing = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--remove")) {
            removing = 1;
        } else if (!strcmp(argv[i], "--cgroup") && i + 1 < argc) {
            i++;
        } else {
            fprintf(stderr, "usage: zombie [--cgroup DIR]... [--remove]\n");
            return 2;
        }
    }
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        prctl(PR_SET_NAME, "undead");
        for (int i = 1; i + 1 < argc; i++) {
            if (strcmp(argv[i], "--cgroup"))
                continue;
            char path[4096];
            snprintf(path, sizeof path, "%s/cgroup.procs", argv[++i]);
            int file = open(path, O_WRONLY);
            if (file < 0 || write(file, "0", 1) != 1)
                die(path);
            close(file);
        }
        _exit(0);
    }
    siginfo_t info;
    if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT))
        die("waitid");
    if (info.si_status) {
        waitpid(child, NULL, 0);
        return 1;
    }
    for (int i = 1; removing && i + 1 < argc; i++)
        if (!strcmp(argv[i], "--cgroup") && rmdir(argv[++i]))
            die(argv[i]);
    printf("%d\n", (int)child);
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    waitpid(child, NULL, 0);
    return 0;
}
