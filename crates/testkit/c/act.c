// Single acts of a set-up that no common program does, or not in the same way everywhere.
//
//   act overlay POINT KEY[=VALUE]...   mounts an overlay by the new mount API: no text is escaped
//   act xattr FILE NAME [VALUE]        sets an extended attribute
//   act rename FROM TO                 renames, over whatever is there
//   act idmap FROM POINT               mounts FROM on POINT with ids shifted by 100000
//   act exchange A B                   swaps two names, again and again
//   act cut FILE                       truncates FILE and makes it whole again, again and again
//   act listen FILE                    holds back every opening of FILE, and never answers
//
// The last three say "ready" and go on until stdin ends.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static void die(const char *what) {
    fprintf(stderr, "act: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void overlay(const char *point, char **options, int count) {
    int context = fsopen("overlay", FSOPEN_CLOEXEC);
    if (context < 0 || fsconfig(context, FSCONFIG_SET_STRING, "source", "overlay", 0))
        die("fsopen");
    for (int n = 0; n < count; n++) {
        char *value = strchr(options[n], '=');
        if (value)
            *value++ = 0;
        if (fsconfig(context, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, options[n], value,
                     0))
            die(options[n]);
    }
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) {
        char text[4096];
        ssize_t got;
        while ((got = read(context, text, sizeof text - 1)) > 0)
            fprintf(stderr, "%.*s\n", (int)got, text);
        die("overlay");
    }
    int tree = fsmount(context, FSMOUNT_CLOEXEC, 0);
    if (tree < 0 || move_mount(tree, "", AT_FDCWD, point, MOVE_MOUNT_F_EMPTY_PATH))
        die(point);
}

static void write_map(pid_t pid, const char *file) {
    char path[64];
    const char text[] = "0 100000 65536\n";
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    int map = open(path, O_WRONLY | O_CLOEXEC);
    if (map < 0 || write(map, text, sizeof text - 1) < 0)
        die(path);
    close(map);
}

static void idmap(const char *from, const char *point) {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC))
        die("pipe");
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWUSER) || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char byte, path[64];
    close(ready[1]);
    if (child < 0 || read(ready[0], &byte, 1) != 1)
        die("a user namespace");
    write_map(child, "uid_map");
    write_map(child, "gid_map");
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)child);
    int users = open(path, O_RDONLY | O_CLOEXEC);
    int tree = open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)users};
    int bad = tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr) ||
              move_mount(tree, "", AT_FDCWD, point, MOVE_MOUNT_F_EMPTY_PATH);
    int why = errno;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    errno = why;
    if (bad)
        die(point);
}

static int told_to_end(int wait_ms) {
    struct pollfd in = {.fd = 0, .events = POLLIN};
    char byte;
    return poll(&in, 1, wait_ms) > 0 && read(0, &byte, 1) <= 0;
}

static void ready(void) {
    alarm(300);
    printf("ready\n");
    fflush(stdout);
}

static void exchange(const char *a, const char *b) {
    ready();
    for (int wait = 0; !told_to_end(wait); wait = (wait + 1) % 3)
        if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE))
            die(a);
}

static void cut(const char *path) {
    static char whole[1 << 22];
    int file = open(path, O_RDWR | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : pread(file, whole, sizeof whole, 0);
    if (size <= 0 || size == sizeof whole)
        die(path);
    ready();
    for (int wait = 0; !told_to_end(wait); wait = (wait + 1) % 3) {
        if (ftruncate(file, 0))
            die("truncating");
        if (pwrite(file, whole, (size_t)size, 0) != size)
            die("writing");
    }
}

static void listen_to(const char *path) {
    int events = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC);
    if (events < 0)
        die("fanotify_init");
    if (fanotify_mark(events, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, path))
        die(path);
    ready();
    while (!told_to_end(-1))
        ;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "overlay") && argc > 3) {
        overlay(argv[2], argv + 3, argc - 3);
    } else if (!strcmp(what, "xattr") && argc > 3) {
        const char *value = argc > 4 ? argv[4] : "";
        if (setxattr(argv[2], argv[3], value, strlen(value), 0))
            die(argv[3]);
    } else if (!strcmp(what, "rename") && argc == 4) {
        if (rename(argv[2], argv[3]))
            die(argv[2]);
    } else if (!strcmp(what, "idmap") && argc == 4) {
        idmap(argv[2], argv[3]);
    } else if (!strcmp(what, "exchange") && argc == 4) {
        exchange(argv[2], argv[3]);
    } else if (!strcmp(what, "cut") && argc == 3) {
        cut(argv[2]);
    } else if (!strcmp(what, "listen") && argc == 3) {
        listen_to(argv[2]);
    } else {
        fprintf(stderr, "act: what is %s?\n", what);
        return 2;
    }
    return 0;
}
