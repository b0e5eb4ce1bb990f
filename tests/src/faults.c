/* Faults on demand, for a supervisor that is started with this in LD_PRELOAD. Each is switched by a file in the folder that
 * POOL_TEST_FAULTS names: `clock` holds seconds that the wall clock is off by, `spawn` the error that starting a process gives. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
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

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                char *const arguments[], char *const environment[]) {
    int error = (int)fault("spawn");
    if (error) return error;
    int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
                char *const[]) = dlsym(RTLD_NEXT, "posix_spawn");
    return real(pid, path, actions, attributes, arguments, environment);
}
