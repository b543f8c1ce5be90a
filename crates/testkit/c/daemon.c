/* Listens on a unix socket, and answers as it was told to.
 *
 * daemon NAME MODE -H unix://PATH   NAME is what the kernel is to call it.
 *
 * It prints "ready", and for each line it reads the number of connections so far.
 * Modes: silent (takes connections, says nothing), full (takes none, and its queue
 * is full), garbage, close, endless, huge, drip, deep, error, tell FILE (the file is the
 * body of every answer).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define OK "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

static struct sockaddr_un address = {.sun_family = AF_UNIX};

static int ended(void) {
    struct pollfd in = {.fd = 0, .events = POLLIN};
    return poll(&in, 1, 0) > 0;
}

static int send_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        struct pollfd out = {.fd = fd, .events = POLLOUT};
        if (poll(&out, 1, 100) == 0) {
            if (ended()) return -1;
            continue;
        }
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) continue;
        if (sent <= 0) return -1;
        bytes += sent;
        length -= sent;
    }
    return 0;
}

static int say(int fd, const char *text) { return send_all(fd, text, strlen(text)); }

static void tell(int fd, const char *file) {
    static char body[1 << 20];
    FILE *in = fopen(file, "r");
    size_t length = in ? fread(body, 1, sizeof body, in) : 0;
    char head[200];
    snprintf(head, sizeof head, OK "Content-Length: %zu\r\n\r\n", length);
    if (say(fd, head) == 0) send_all(fd, body, length);
    if (in) fclose(in);
}

static void answer(int fd, const char *mode, const char *file) {
    char request[4096];
    recv(fd, request, sizeof request, 0);
    if (!strcmp(mode, "garbage")) say(fd, "SSH-2.0-garbage\r\n\x01\x02");
    if (!strcmp(mode, "huge")) say(fd, OK "Content-Length: 99999999999\r\n\r\n[");
    if (!strcmp(mode, "error")) say(fd, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    if (!strcmp(mode, "tell")) tell(fd, file);
    if (!strcmp(mode, "endless") && say(fd, OK "\r\n[") == 0) {
        static char blanks[1 << 17];
        memset(blanks, ' ', sizeof blanks);
        while (send_all(fd, blanks, sizeof blanks) == 0) {}
    }
    if (!strcmp(mode, "drip") && say(fd, OK "X: ") == 0)
        while (!ended() && say(fd, "y") == 0) usleep(20000);
    if (!strcmp(mode, "deep") && say(fd, OK "\r\n") == 0)
        for (int i = 0; i < 100000 && say(fd, "[") == 0; i++) {}
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    const char *mode = argv[2], *path = strstr(argv[4], "://");
    if (!path) return 2;
    prctl(PR_SET_NAME, argv[1]);
    signal(SIGPIPE, SIG_IGN);
    strncpy(address.sun_path, path + 3, sizeof address.sun_path - 1);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(address.sun_path);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) return 1;
    chmod(address.sun_path, 0666);
    int full = !strcmp(mode, "full");
    if (listen(listener, full ? 0 : 16) < 0) return 1;
    while (full) {
        int own = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(own, (struct sockaddr *)&address, sizeof address) < 0) break;
    }
    puts("ready");
    fflush(stdout);
    int connections = 0;
    for (;;) {
        struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
        if (poll(fds, full ? 1 : 2, -1) < 0) return 1;
        if (fds[0].revents) {
            char text[100];
            ssize_t length = read(0, text, sizeof text);
            if (length <= 0) return 0;
            // A line may come in parts.
            for (ssize_t i = 0; i < length; i++)
                if (text[i] == '\n') printf("%d\n", connections);
            fflush(stdout);
        }
        if (!full && fds[1].revents) {
            int fd = accept(listener, NULL, NULL);
            connections++;
            if (!strcmp(mode, "silent")) continue;
            answer(fd, mode, argc > 5 ? argv[5] : "");
            close(fd);
        }
    }
}
