/* Preloaded into the programs of a test run: their clock is CLOCK_AHEAD seconds ahead of the machine's.
   With CLOCK_AHEAD_FILE, the file holds the seconds (eight bytes), and the clock may be moved at any time.

   The times of files move along. Clocks that only measure durations stay, and so do deadlines,
   which libfaketime 0.9.10 breaks for Python: either time.sleep fails or a wait never ends. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead(void) {
    static const volatile int64_t *moved;
    const char *file = moved ? NULL : getenv("CLOCK_AHEAD_FILE");
    if (file) {
        int opened = open(file, O_RDONLY | O_CLOEXEC);
        void *there = mmap(NULL, sizeof *moved, PROT_READ, MAP_SHARED, opened, 0);
        if (there == MAP_FAILED) abort();
        moved = there;
    }
    if (moved) return (time_t)*moved;
    const char *seconds = getenv("CLOCK_AHEAD");
    return seconds ? (time_t)atoll(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *kept) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (kept) *kept = now.tv_sec;
    return now.tv_sec;
}

#define MOVED(name, parameters, arguments)                                   \
    int name parameters {                                                            \
        static int(*original) parameters;                                            \
        if (!original) original = (int(*) parameters)dlsym(RTLD_NEXT, #name);        \
        int failed = original arguments;                                             \
        if (!failed) {                                                               \
            time_t moved = ahead();                                                  \
            found->st_mtim.tv_sec += moved;                                          \
            found->st_ctim.tv_sec += moved;                                          \
            found->st_atim.tv_sec += moved;                                          \
        }                                                                            \
        return failed;                                                               \
    }

MOVED(stat, (const char *path, struct stat *found), (path, found))
MOVED(lstat, (const char *path, struct stat *found), (path, found))
MOVED(fstat, (int file, struct stat *found), (file, found))
MOVED(fstatat, (int folder, const char *path, struct stat *found, int flags), (folder, path, found, flags))
MOVED(stat64, (const char *path, struct stat64 *found), (path, found))
MOVED(lstat64, (const char *path, struct stat64 *found), (path, found))
MOVED(fstat64, (int file, struct stat64 *found), (file, found))
MOVED(fstatat64, (int folder, const char *path, struct stat64 *found, int flags), (folder, path, found, flags))

static struct timespec back(struct timespec moment) {
    if (moment.tv_nsec != UTIME_NOW && moment.tv_nsec != UTIME_OMIT) moment.tv_sec -= ahead();
    return moment;
}

static int set_times(int folder, const char *path, const struct timespec moments[2], int flags) {
    struct timespec real[2];
    if (moments) {
        real[0] = back(moments[0]);
        real[1] = back(moments[1]);
    }
    return (int)syscall(SYS_utimensat, folder, path, moments ? real : NULL, flags);
}

int utimensat(int folder, const char *path, const struct timespec moments[2], int flags) {
    return set_times(folder, path, moments, flags);
}

int futimens(int file, const struct timespec moments[2]) {
    return set_times(file, NULL, moments, 0);
}
