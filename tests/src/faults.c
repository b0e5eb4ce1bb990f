/* Faults on demand, for a supervisor that is started with this in LD_PRELOAD. Each is switched by a file in the folder that
 * POOL_TEST_FAULTS names: `clock` holds seconds that the wall clock is off by, `spawn` the error that starting a process gives. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long fault(const char *name) {
    const char *folder = getenv("POOL_TEST_FAULTS");
    if (!folder) return 0;
    char path[4096], text[32] = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    long got = read(fd, text, sizeof text - 1);
    close(fd);
    return got > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int kept = errno;
    long result = syscall(SYS_clock_gettime, clock, at);
    if (result == 0 && clock == CLOCK_REALTIME) {
        at->tv_sec += fault("clock");
        errno = kept;
    }
    return (int)result;
}

/* How the supervisor starts its workers. The C library starts threads by a way of its own. */
int clone(int (*child)(void *), void *stack, int flags, void *argument, ...) {
    int error = (int)fault("spawn");
    if (error) {
        errno = error;
        return -1;
    }
    va_list more;
    va_start(more, argument);
    void *parents = va_arg(more, void *), *tls = va_arg(more, void *), *childs = va_arg(more, void *);
    va_end(more);
    int (*real)(int (*)(void *), void *, int, void *, ...) = dlsym(RTLD_NEXT, "clone");
    return real(child, stack, flags, argument, parents, tls, childs);
}
