// A library to be preloaded into the binaries under test. A page of shared memory, which the test
// writes and this reads at every call, says which system calls fail on which files, and how far the
// wall clock is off. While the page is all zeroes, everything is as it is.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

// The layout is repeated in shim.rs.
enum call { OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, UNLINK = 16, TRUNCATE = 32, RENAME = 64 };

struct control {
    _Atomic int64_t clock_offset_ms;
    _Atomic uint32_t calls;   // which calls fail: a set of `enum call`
    _Atomic uint32_t error;   // with which errno
    _Atomic uint32_t late;    // 1: the call is made, and fails all the same
    _Atomic int32_t pass;     // how many matching calls are let through first
    _Atomic int32_t fail;     // how many fail after that; below zero: all
    _Atomic uint32_t hits;    // how many have failed
    char suffix[64];          // the end of the names of the files that are meant
};

static struct control nothing;
static struct control *control = &nothing;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) control = page;
    close(fd);
}

static int meant(const char *path) {
    size_t have = strlen(path), want = strnlen(control->suffix, sizeof control->suffix);
    return have >= want && memcmp(path + have - want, control->suffix, want) == 0;
}

// Whether this call fails.
static int fails(enum call call, const char *path) {
    if (!(control->calls & call) || !meant(path)) return 0;
    if (atomic_fetch_sub(&control->pass, 1) > 0) return 0;
    control->pass = 0;
    int32_t left = control->fail;
    while (left > 0 && !atomic_compare_exchange_weak(&control->fail, &left, left - 1)) {}
    if (left == 0) return 0;
    atomic_fetch_add(&control->hits, 1);
    return 1;
}

static int fails_fd(enum call call, int fd) {
    char link[32], path[4096];
    if (!(control->calls & call)) return 0;
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0) return 0;
    path[length] = 0;
    return fails(call, path);
}

#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name); real; })

#define GUARDED(type, name, call, fd, parameters, arguments)          \
    type name parameters {                                            \
        if (!fails_fd(call, fd)) return REAL(name) arguments;         \
        if (control->late) REAL(name) arguments;                      \
        errno = (int)control->error;                                  \
        return -1;                                                    \
    }

GUARDED(ssize_t, read, READ, fd, (int fd, void *to, size_t count), (fd, to, count))
GUARDED(ssize_t, pread64, READ, fd, (int fd, void *to, size_t count, off64_t at), (fd, to, count, at))
GUARDED(ssize_t, write, WRITE, fd, (int fd, const void *from, size_t count), (fd, from, count))
GUARDED(ssize_t, pwrite64, WRITE, fd, (int fd, const void *from, size_t count, off64_t at),
        (fd, from, count, at))
GUARDED(int, fsync, SYNC, fd, (int fd), (fd))
GUARDED(int, fdatasync, SYNC, fd, (int fd), (fd))
GUARDED(int, ftruncate64, TRUNCATE, fd, (int fd, off64_t size), (fd, size))

int unlink(const char *path) {
    if (!fails(UNLINK, path)) return REAL(unlink)(path);
    if (control->late) REAL(unlink)(path);
    errno = (int)control->error;
    return -1;
}

int rename(const char *from, const char *to) {
    if (!fails(RENAME, to)) return REAL(rename)(from, to);
    errno = (int)control->error;
    return -1;
}

// Only opening for writing fails.
#define OPENER(name)                                                        \
    int name(const char *path, int flags, ...) {                            \
        mode_t mode = 0;                                                    \
        if (flags & (O_CREAT | O_TMPFILE)) {                                \
            va_list rest;                                                   \
            va_start(rest, flags);                                          \
            mode = va_arg(rest, mode_t);                                    \
            va_end(rest);                                                   \
        }                                                                   \
        if ((flags & O_ACCMODE) != O_RDONLY && fails(OPEN, path)) {         \
            errno = (int)control->error;                                    \
            return -1;                                                      \
        }                                                                   \
        return REAL(name)(path, flags, mode);                               \
    }

OPENER(open)
OPENER(open64)

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = REAL(clock_gettime)(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ms = control->clock_offset_ms;
        int64_t nanoseconds = now->tv_nsec + ms % 1000 * 1000000;
        now->tv_sec += ms / 1000 + (nanoseconds >= 1000000000) - (nanoseconds < 0);
        now->tv_nsec = (nanoseconds + 1000000000) % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    if (result == 0) {
        now->tv_sec = precise.tv_sec;
        now->tv_usec = precise.tv_nsec / 1000;
    }
    return result;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
