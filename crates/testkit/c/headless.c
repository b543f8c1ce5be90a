// A process whose main thread has ended while another goes on.
//
//   headless
//
// Prints "PID\n" once the main thread is about to end; on the end of stdin the other ends the process.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *goes_on(void *unused) {
    char byte;
    while (read(0, &byte, 1) > 0) {
    }
    _exit(0);
    return unused;
}

int main(void) {
    pthread_t one;
    if (pthread_create(&one, 0, goes_on, 0) != 0) {
        perror("headless: pthread_create");
        return 1;
    }
    printf("%d\n", getpid());
    fflush(stdout);
    pthread_exit(0);
}
