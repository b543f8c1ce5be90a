// Maps files, and waits.
//
//   mapper [+]FILE...
//
// Each is mapped as a whole, private and to be read; with a plus shared, and to be written. The first
// page is touched. Prints "mapped\n", and ends on the end of stdin.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(1);
}

int main(int argc, char **argv) {
    volatile char sum = 0;
    for (int i = 1; i < argc; i++) {
        int shared = argv[i][0] == '+';
        const char *path = argv[i] + shared;
        int fd = open(path, shared ? O_RDWR : O_RDONLY);
        struct stat about;
        if (fd < 0 || fstat(fd, &about) != 0) die(path);
        int prot = shared ? PROT_READ | PROT_WRITE : PROT_READ;
        char *at = mmap(0, about.st_size, prot, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
        if (at == MAP_FAILED) die(path);
        sum += at[0];
        close(fd);
    }
    printf("mapped\n");
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0) {
    }
    return 0;
}
