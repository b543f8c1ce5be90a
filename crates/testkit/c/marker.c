// A program that carries a marker and tells the one it has mapped: every copy of the file gets a
// marker of its own, so what it prints says which file really runs.
//
//   marker [hold | ANY...]       says "marker MARKER PID" and waits
//   marker memfd NAME            runs a copy of itself from a memfd
//   marker tmpfile DIR           runs a copy of itself that never had a name
//   marker deep DIR NAME COUNT   runs a copy of itself COUNT directories NAME below DIR
//   marker chroot DIR FILE [ARG...]     runs FILE with DIR as root
//   marker false FILE            moves its code to anonymous memory and gives FILE out as its exe
//   marker false-mapped FILE     the same, with FILE mapped for reading as well
//   marker copied                gives every page of its file a private copy of its own
//   marker leaderless            goes on in a thread whose leader has ended
//   marker exec FILE [ARG...]    says its marker first, then runs FILE at the first byte on stdin
//
// While it waits, each byte on stdin makes it say its marker again; it ends with stdin, or, when
// that is no pipe, after a while.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// The test writes each copy's own marker over this, in the file.
static const volatile char marker[64] __attribute__((aligned(64))) =
    "WHOSE-MARKER-00000000000000000000000000000000";

static void die(const char *what) {
    fprintf(stderr, "marker: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void tell(void) {
    char text[sizeof marker];
    for (size_t n = 0; n < sizeof marker; n++)
        text[n] = marker[n];
    printf("marker %s %d\n", text, (int)getpid());
    fflush(stdout);
}

static void hold(void) {
    struct stat in;
    int told = fstat(0, &in) == 0 && S_ISFIFO(in.st_mode);
    alarm(900);
    tell();
    char byte;
    while (told && read(0, &byte, 1) > 0)
        tell();
    while (!told)
        pause();
}

// A writable copy of the running file in `to`; then a descriptor of it that is not writable.
static int copy_to(int to) {
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    static char block[1 << 16];
    ssize_t got;
    if (from < 0 || to < 0)
        die("copying");
    while ((got = read(from, block, sizeof block)) > 0)
        if (write(to, block, (size_t)got) != got)
            die("writing");
    if (fchmod(to, 0755))
        die("chmod");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", to);
    int copy = open(path, O_RDONLY | O_CLOEXEC);
    if (copy < 0)
        die(path);
    close(from);
    close(to); // a file that is open for writing can't be run
    return copy;
}

static void run_descriptor(int file) {
    char *words[] = {"marker", "hold", NULL}, *none[] = {NULL};
    syscall(SYS_execveat, file, "", words, none, AT_EMPTY_PATH);
    die("execveat");
}

static void deep(const char *dir, const char *name, int count) {
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (self < 0 || chdir(dir))
        die(dir);
    for (int n = 0; n < count; n++)
        if ((mkdir(name, 0755) && errno != EEXIST) || chdir(name))
            die(name);
    int copy = copy_to(open("marker", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0755));
    close(copy);
    close(self);
    execl("./marker", "marker", "hold", NULL);
    die("running the deep copy");
}

struct part {
    uintptr_t start, end;
    int protection;
};

enum { PARTS = 32 };

// The mappings of the running file.
static int own_parts(struct part *parts) {
    int count = 0;
    char line[4352], own[4096], name[4096];
    ssize_t len = readlink("/proc/self/exe", own, sizeof own - 1);
    if (len < 0)
        die("exe");
    own[len] = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char flags[5];
        name[0] = 0;
        sscanf(line, "%lx-%lx %4s %*s %*s %*s %4095[^\n]", &start, &end, flags, name);
        if (strcmp(name, own) || count == PARTS)
            continue;
        parts[count].start = start;
        parts[count].end = end;
        parts[count++].protection = (flags[0] == 'r' ? PROT_READ : 0) |
                                    (flags[1] == 'w' ? PROT_WRITE : 0) |
                                    (flags[2] == 'x' ? PROT_EXEC : 0);
    }
    fclose(maps);
    return count;
}

// Replaces every mapping of the running file by anonymous memory with the same bytes. The pages
// change below the running code, which finds the same instructions there.
static void leave_file(void) {
    struct part parts[PARTS];
    int count = own_parts(parts);
    for (int n = 0; n < count; n++) {
        size_t size = parts[n].end - parts[n].start;
        char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (copy == MAP_FAILED)
            die("mmap");
        memcpy(copy, (void *)parts[n].start, size);
        if (mprotect(copy, size, parts[n].protection))
            die("mprotect");
        if (mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)parts[n].start) ==
            MAP_FAILED)
            die("mremap");
    }
}

// Writes to every page of the file's mappings: they stay mappings of the file, with other pages.
static void copy_pages(void) {
    struct part parts[PARTS];
    int count = own_parts(parts);
    for (int n = 0; n < count; n++) {
        size_t size = parts[n].end - parts[n].start;
        if (mprotect((void *)parts[n].start, size, PROT_READ | PROT_WRITE | PROT_EXEC))
            die("mprotect");
        for (volatile char *at = (char *)parts[n].start; (uintptr_t)at < parts[n].end; at += 4096)
            *at = *at;
        mprotect((void *)parts[n].start, size, parts[n].protection);
    }
}

static void hold(void);

static void *hold_in_thread(void *leader) {
    while (syscall(SYS_tgkill, getpid(), *(pid_t *)leader, 0) == 0) {
        char path[64], text[512];
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", *(pid_t *)leader);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = file < 0 ? -1 : read(file, text, sizeof text - 1);
        close(file);
        text[got > 0 ? got : 0] = 0;
        char *end = strrchr(text, ')');
        if (end && end[2] == 'Z')
            break;
        usleep(1000);
    }
    hold();
    _exit(0);
}

static void leaderless(void) {
    static pid_t leader;
    pthread_t thread;
    leader = getpid();
    if (pthread_create(&thread, NULL, hold_in_thread, &leader))
        die("thread");
    syscall(SYS_exit, 0);
}

static void false_exe(const char *path, int mapped) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (file < 0 || fstat(file, &about))
        die(path);
    leave_file();
    if (mapped && mmap(NULL, (size_t)about.st_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) ==
                      MAP_FAILED)
        die("mmap");
    uintptr_t here = (uintptr_t)&about, page = 4096;
    uintptr_t code = getauxval(AT_PHDR) & ~(page - 1);
    struct prctl_mm_map map = {.start_code = code,
                               .end_code = code + page,
                               .start_data = code,
                               .end_data = code + page,
                               .start_brk = (uintptr_t)sbrk(0),
                               .brk = (uintptr_t)sbrk(0),
                               .start_stack = here,
                               .arg_start = here,
                               .arg_end = here + 1,
                               .env_start = here,
                               .env_end = here + 1,
                               .auxv = NULL,
                               .auxv_size = 0,
                               .exe_fd = (uint32_t)file};
    if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0))
        die("PR_SET_MM_MAP");
    close(file);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "hold";
    if (!strcmp(what, "memfd") && argc == 3)
        run_descriptor(copy_to(memfd_create(argv[2], MFD_CLOEXEC)));
    if (!strcmp(what, "tmpfile") && argc == 3)
        run_descriptor(copy_to(open(argv[2], O_TMPFILE | O_RDWR | O_CLOEXEC, 0755)));
    if (!strcmp(what, "deep") && argc == 5)
        deep(argv[2], argv[3], atoi(argv[4]));
    if (!strcmp(what, "chroot") && argc > 3) {
        if (chroot(argv[2]) || chdir("/"))
            die(argv[2]);
        execv(argv[3], argv + 3);
        die(argv[3]);
    }
    if (!strcmp(what, "copied"))
        copy_pages();
    if (!strcmp(what, "leaderless"))
        leaderless();
    if (!strcmp(what, "exec") && argc > 2) {
        tell();
        char byte;
        if (read(0, &byte, 1) == 1)
            execv(argv[2], argv + 2);
        die(argv[2]);
    }
    if (argc == 3 && (!strcmp(what, "false") || !strcmp(what, "false-mapped")))
        false_exe(argv[2], !strcmp(what, "false-mapped"));
    hold();
    return 0;
}
